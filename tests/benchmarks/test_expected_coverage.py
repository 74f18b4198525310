"""What tables hold when the engine is right, in cases that can be reckoned."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.expected_coverage import BAR, Whole, told


def whole(*covariances: np.ndarray) -> Whole:
    """Equally probable distributions about zero."""
    kinds, rows = len(covariances), len(covariances[0])
    roots = np.linalg.cholesky(np.stack(covariances))
    return Whole(np.full(kinds, 1 / kinds), np.zeros((kinds, rows)), roots)


def test_runs_of_their_own_are_held_as_by_a_binomial_and_runs_that_share_all_together():
    rows, draws, rng = 20, 20_000, np.random.default_rng(0)
    own = whole(np.eye(rows)).held(np.array([0]), draws, rng)
    # Four standard errors of the mean; those of a variance are wider by the kurtosis.
    assert own.mean() == pytest.approx(0.9, abs=4 * np.sqrt(0.09 / rows / draws))
    assert own.var() == pytest.approx(0.09 / rows, rel=0.05)
    shared = whole(np.ones((rows, rows)) + 1e-9 * np.eye(rows)).held(np.array([0]), draws, rng)
    assert shared.var() == pytest.approx(0.09, rel=0.05)


def test_runs_are_predicted_from_those_below_each_cut():
    """With everything shared, only the first cut can miss: at the next all is known but for the
    runs' own noise. And with two distributions the runs below tell which is true.
    """
    rng, rows = np.random.default_rng(1), 12
    near = whole(1e6 * np.ones((rows, rows)) + np.eye(rows))
    held = near.held(np.array([0, 6]), 20_000, rng)
    assert held.mean() == pytest.approx(0.9, abs=0.005)
    # 12 runs that are held or missed together and 6 nearly on their own, of 18.
    assert held.var() == pytest.approx((12 / 18) ** 2 * 0.09 + (6 / 18) ** 2 * 0.09 / 6, rel=0.1)
    mixed = whole(np.eye(rows), 100 * np.eye(rows)).held(np.array([0, 6]), 20_000, rng)
    assert mixed.mean() == pytest.approx(0.9, abs=0.005)


def test_the_least_of_several_tables_is_told_beside_what_was_measured():
    drawn = pd.DataFrame({"a": [0.9, 0.7, 1.0, 0.8], "b": [0.6, 0.9, 0.9, 1.0]})
    text = told(drawn, pd.Series({"a": 0.75, "b": 0.95}))
    assert f"less than {BAR:.0%} in 50% of draws" in text
    assert "measured: least 75% (50% of draws are lower), 0 below" in text
