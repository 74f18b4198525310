"""The benchmark of what a run spends beside its steps runs in its debug form."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).parents[2]


@pytest.mark.exhaustive
def test_the_debug_form_prints_a_ratio_for_each_part():
    done = subprocess.run(
        [sys.executable, "benchmarks/dispatch.py", "--debug"],
        cwd=REPOSITORY,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    parts = (r"ratio ([\d.]+)", r"([\d.]+)x what", r"waits ([\d.]+) steps", r"cache \(([\d.]+)x\)")
    for pattern in parts:
        assert float(re.findall(pattern, done.stdout)[0]) > 0
