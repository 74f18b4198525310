"""The only entry point: `python launch.py <command> [flags]`; `python launch.py --help` lists them.

Parses flags and calls one command of `scaling/commands`. Bad input ends with one line and exit code
2.
"""

import sys

from absl import flags

from scaling.commands import COMMANDS, config_flag
from scaling.commands.command import FLAGS
from scaling.errors import BAD_INPUT, UserError, nearest


def main(argv: list[str]) -> int:
    """Run the sub-command that `argv` names; the exit code."""
    if len(argv) < 2 or argv[1] in ("help", "-h", "--help"):
        print(__doc__)
        for name, command in COMMANDS.items():
            print(f"  {name:9s} {command.summary}")
        print("\npython launch.py <command> --help shows examples and flags.")
        return 0 if len(argv) > 1 else BAD_INPUT
    name, rest = argv[1], argv[2:]
    try:
        if name not in COMMANDS:
            raise UserError(f"{name} is no command{nearest(name, COMMANDS)}")
        command = COMMANDS[name]
        command.define_flags()
        if {"--help", "-h", "--helpfull"} & set(rest):
            print(command)
            return 0
        try:
            extra = FLAGS([f"launch.py {name}", *config_flag.gather(name, rest)])[1:]
        except flags.Error as error:
            raise UserError(str(error)) from error
        given = dict(zip(command.arguments, extra, strict=False))
        extra = extra[len(given) :]
        for flag, value in given.items():
            FLAGS[flag].value = value
        if extra:
            raise UserError(f"{name}: {extra[0]!r} is no flag; flags start with --")
        return command.run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main(sys.argv))
