"""The benchmark of growth runs in its debug form; its exponents are slopes."""

import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks.growth import exponent

REPOSITORY = pathlib.Path(__file__).parents[2]


def test_the_exponent_is_that_of_a_power_law():
    sizes = [1, 2, 4, 8]
    assert exponent(sizes, [3 * s**1.7 for s in sizes]) == pytest.approx(1.7)


@pytest.mark.exhaustive
def test_the_debug_form_prints_a_table_an_axis_and_draws(tmp_path):
    command = [sys.executable, "benchmarks/growth.py", "--debug", f"--figure={tmp_path}/growth.png"]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("exponent") == 2
    for axis in ("width", "devices"):
        assert axis in done.stdout
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
