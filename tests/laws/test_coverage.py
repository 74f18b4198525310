"""Intervals hold the truth as often as they say, also far beyond the runs."""

import pytest

from benchmarks.law_coverage import DESIGNS, coverage

WIDER = 1.2  # times the bootstrap's interval, at most, where the form is right


def held(found: dict[str, float]) -> dict[str, float]:
    """What intervals are asked to hold, without how wide they are."""
    return {name: share for name, share in found.items() if not name.startswith("width")}


@pytest.mark.slow
def test_quick_start_intervals_cover() -> None:
    """Sixty sweeps of the quick start's shape: 90 % intervals, binomial error 4 %."""
    shares = coverage(DESIGNS["quick start, 13 runs"], simulations=60, bootstrap=150)
    for quantity, share in held(shares).items():
        assert 0.80 <= share <= 0.99, (quantity, shares)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("quick start, 13 runs", marks=pytest.mark.exhaustive),
        pytest.param("5 budgets x 7 sizes", marks=pytest.mark.exhaustive),
        pytest.param("8 budgets x 15 sizes", marks=pytest.mark.exhaustive),
    ],
)
def test_default_intervals_cover(name: str) -> None:
    """Exponents and predictions at 10 and 100 times the largest budget, 300 simulations each."""
    shares = coverage(DESIGNS[name], simulations=300)
    for quantity, share in held(shares).items():
        assert 0.85 <= share <= 0.95, (quantity, shares)
    assert max(ratio for name, ratio in shares.items() if name not in held(shares)) <= WIDER


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("quick start, law 0.3 % off", marks=pytest.mark.exhaustive),
        pytest.param("8 x 15, heavy tails", marks=pytest.mark.exhaustive),
    ],
)
def test_default_intervals_bend_but_hold(name: str) -> None:
    """Where the law is off at every point, or the noise has heavy tails."""
    shares = coverage(DESIGNS[name], simulations=300)
    for quantity, share in held(shares).items():
        assert 0.80 <= share <= 0.97, (quantity, shares)
