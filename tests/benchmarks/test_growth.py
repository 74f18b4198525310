"""The benchmark of growth runs in its debug form; its exponents are slopes."""

import pytest
from debug_form import printed

from benchmarks.growth import exponent


def test_the_exponent_is_that_of_a_power_law():
    sizes = [1, 2, 4, 8]
    assert exponent(sizes, [3 * s**1.7 for s in sizes]) == pytest.approx(1.7)


@pytest.mark.exhaustive
def test_the_debug_form_prints_a_table_an_axis_and_draws(tmp_path):
    text = printed("growth.py", f"--figure={tmp_path}/growth.png")
    assert text.count("exponent") == 2
    for axis in ("width", "devices"):
        assert axis in text
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
