"""The benchmark of sweep throughput runs in its debug form."""

import os
import pathlib
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).parents[2]


@pytest.mark.exhaustive
def test_the_debug_form_prints_ratios_and_the_best_size():
    done = subprocess.run(
        [sys.executable, "benchmarks/sweep_throughput.py", "--debug"],
        cwd=REPOSITORY,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "x sequential" in done.stdout
    assert "best by CPU seconds:" in done.stdout
