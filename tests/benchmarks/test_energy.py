"""The best sizes of budgets, on runs whose laws are known."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import energy

E, A, ALPHA, B, BETA = 0.8, 30.0, 0.4, 40.0, 0.35


def _runs(power: float) -> pd.DataFrame:
    """Eighteen runs by Chinchilla's law, whose units cost 2e-6 params^power joules."""
    params = np.tile([1.4e4, 2.6e4, 5e4, 9e4, 1.8e5, 3.3e5], 3)
    flops = np.repeat([4e11, 1.2e12, 3.6e12], 6)
    tokens = flops / (6 * params)
    noise = 1 + 0.003 * np.random.default_rng(0).normal(size=18)
    return pd.DataFrame(
        {
            "unit": "token",
            "params": params,
            "tokens": tokens,
            "flops": flops,
            "loss": (E + A / params**ALPHA + B / tokens**BETA) * noise,
            "joules": 2e-6 * params**power * tokens,
        }
    )


def _best(each: float, power: float, budget: float) -> float:
    """Where the derivatives by size of both terms meet, when a unit costs `each` params^power."""
    whole = ALPHA + power * BETA
    ratio = ALPHA * A / (power * BETA * B)
    return float(ratio ** (1 / whole) * (budget / each) ** (BETA / whole))


@pytest.fixture(scope="module")
def best() -> dict:
    return energy.best_sizes(energy.fitted(_runs(0.6)), 1.2e12)


def test_the_best_sizes_are_those_of_the_closed_forms(best):
    for name, expected in (
        ("best for flops", _best(6.0, 1.0, 1.2e12)),
        ("best for joules", _best(2e-6, 0.6, best["joules"])),
    ):
        value, low, high = best[name]
        assert value == pytest.approx(expected, rel=0.06)
        assert low < value < high


def test_what_is_cheaper_when_large_has_larger_best_sizes_and_something_to_lose(best):
    assert best["ratio"][1] > 2
    assert best["lost"][1] > 0


def test_joules_in_proportion_to_flops_change_nothing():
    same = energy.best_sizes(energy.fitted(_runs(1.0)), 1.2e12)
    assert same["ratio"] == pytest.approx((1.0, 1.0, 1.0))
    assert same["lost"] == pytest.approx((0.0, 0.0, 0.0))
