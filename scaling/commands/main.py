"""The commands as a program: `python launch.py` in a checkout, `scaling` where it is installed.

Parses flags and calls one command of `COMMANDS`. Bad input ends with one line and exit code 2.
"""

import os
import signal
import sys

from scaling.commands import COMMANDS
from scaling.commands.parsing import parse
from scaling.errors import BAD_INPUT, UserError
from scaling.place import called, program


def main(argv: list[str]) -> int:
    """Run the sub-command that `argv` names; the exit code."""
    if len(argv) < 2 or argv[1] in ("help", "-h", "--help"):
        print(f"{program()} <command> [flags]\n")
        for name, command in COMMANDS.items():
            print(f"  {name:10s} {command.summary}")
        print(f"\n{program()} <command> --help shows examples and flags.")
        return 0 if len(argv) > 1 else BAD_INPUT
    try:
        command, help_wanted = parse(argv[1:], COMMANDS)
        if help_wanted:
            print(called(str(command)))
            return 0
        return command.run()
    except UserError as error:
        print(called(f"error: {error}"), file=sys.stderr)
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
