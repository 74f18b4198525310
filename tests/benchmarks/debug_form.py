"""Runs a benchmark in its debug form, as a user would."""

import os
import pathlib
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).parents[2]


def printed(benchmark: str, *flags: str) -> str:
    """What `benchmarks/<benchmark> --debug` prints; it must end well."""
    done = subprocess.run(
        [sys.executable, f"benchmarks/{benchmark}", "--debug", *flags],
        cwd=REPOSITORY,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
