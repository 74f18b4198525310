"""The only entry point: `python launch.py <command> [flags]`; `python launch.py --help` lists them.

Parses flags and calls one command of `scaling/commands`. Bad input ends with one line and exit code
2.
"""

import os
import signal
import sys

from scaling.commands import COMMANDS
from scaling.commands.parsing import parse
from scaling.errors import BAD_INPUT, UserError


def main(argv: list[str]) -> int:
    """Run the sub-command that `argv` names; the exit code."""
    if len(argv) < 2 or argv[1] in ("help", "-h", "--help"):
        print(__doc__)
        for name, command in COMMANDS.items():
            print(f"  {name:9s} {command.summary}")
        print("\npython launch.py <command> --help shows examples and flags.")
        return 0 if len(argv) > 1 else BAD_INPUT
    try:
        command, help_wanted = parse(argv[1:], COMMANDS)
        if help_wanted:
            print(command)
            return 0
        return command.run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT


def entry() -> int:
    """`main`, in a pipe too: when its reader (`| head`) has read enough, this ends quietly."""
    try:
        code = main(sys.argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to flush
        return 128 + signal.SIGPIPE


if __name__ == "__main__":
    sys.exit(entry())
