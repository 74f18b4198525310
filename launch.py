"""The only entry point of a checkout: `python launch.py <command> [flags]`; --help lists them all.

Where the package is installed, the command `scaling` is the same.
"""

import sys

from scaling.commands.main import entry

if __name__ == "__main__":
    sys.exit(entry())
