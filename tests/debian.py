"""Debian's packages that a test needs for real: installed where they are missing and can be.

    python tests/debian.py chromium=chromium chromedriver=chromium-driver    program=package ...

Exit code 77: not on this machine, with the reason. Called by `make test-browser`, and by
`tests/slurm/cluster.py`.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping

IMPOSSIBLE = 77  # exit code


class Impossible(Exception):
    """It cannot be had here; the message says why."""


def install(packages: Mapping[str, str]) -> None:
    """Of program -> package. Raises Impossible without root, apt-get or the package."""
    missing = [program for program in packages if shutil.which(program) is None]
    if not missing:
        return
    names = list(dict.fromkeys(packages[program] for program in missing))
    wanted = f"{', '.join(missing)} of Debian's {' and '.join(names)}"
    if os.geteuid() != 0:
        raise Impossible(f"{wanted}: this is not root")
    if shutil.which("apt-get") is None:
        raise Impossible(f"{wanted}: no apt-get here")
    print(f"installing {' and '.join(names)}", file=sys.stderr, flush=True)
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    options = ["--yes", "--quiet", "--no-install-recommends"]
    for command in (["update", "--quiet"], ["install", *options, *names]):
        done = subprocess.run(["apt-get", *command], env=quiet, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise Impossible(f"{wanted}: apt-get {command[0]} failed: {last}")


if __name__ == "__main__":
    try:
        install(dict(pair.split("=") for pair in sys.argv[1:]))
    except Impossible as reason:
        print(f"not here: {reason}", file=sys.stderr)
        sys.exit(IMPOSSIBLE)
