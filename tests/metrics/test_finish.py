"""Numbers and standard errors from rows: the estimators are the ones that they say they are."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.config.contracts import Metric
from scaling.metrics.finish import GROUPS, finish, jackknife_error, ratio_error

MEAN = Metric("mean", finish=lambda sums: sums[0] / sums[1])
RATIO = {"ratio": MEAN}


def ratio(sums: np.ndarray) -> float:
    return sums[0] / sums[1]


def draw(rng: np.random.Generator, rows: int, equal: bool = False) -> np.ndarray:
    """[rows, 2] of totals and counts; the tokens of a row share a difficulty."""
    counts = np.full(rows, 8.0) if equal else rng.integers(5, 20, size=rows).astype(float)
    return np.stack([counts * rng.gamma(4.0, 0.25, size=rows), counts], axis=1)


def test_the_mean_and_its_error_are_the_ratio_estimator_bit_for_bit():
    rows = draw(np.random.default_rng(0), 301)
    rows[-7:] = 0
    totals, counts = rows[:, 0].copy(), rows[:, 1].copy()
    mean = float(totals.sum() / counts.sum())
    used = counts > 0
    residuals = totals[used] - mean * counts[used]
    n = used.sum()
    variance = n / (n - 1) * np.sum(residuals**2) / counts[used].sum() ** 2
    for form in (rows, (totals, counts)):
        assert finish({"loss": form}, {}) == {"loss": mean, "loss_se": math.sqrt(variance)}


def test_numbers_come_first_and_only_the_loss_and_metrics_with_a_finish_have_errors():
    rows = draw(np.random.default_rng(0), 9)
    found = finish({"loss": rows, "accuracy": rows, "ratio": rows}, RATIO)
    assert list(found) == ["loss", "accuracy", "ratio", "loss_se", "ratio_se"]
    assert found["loss"] == found["accuracy"]
    np.testing.assert_allclose(found["ratio"], found["loss"], rtol=1e-12)


@pytest.mark.parametrize("rows", [2, 7, GROUPS])
def test_the_jackknife_of_a_mean_with_equal_counts_is_the_ratio_estimator(rows):
    sums = draw(np.random.default_rng(rows), rows, equal=True)
    # The same number by another sum: rounding alone, in differences of means.
    np.testing.assert_allclose(jackknife_error(sums, ratio), ratio_error(*sums.T), rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, GROUPS), st.integers(0, 2**32 - 1))
def test_the_jackknife_of_a_mean_is_the_ratio_estimator_to_the_stated_order(rows, seed):
    sums = draw(np.random.default_rng(seed), rows)
    factors = ((1 - 1 / rows) / (1 - sums[:, 1] / sums[:, 1].sum())) ** 2
    variances = jackknife_error(sums, ratio) ** 2, ratio_error(*sums.T) ** 2
    assert factors.min() - 1e-9 <= variances[0] / variances[1] <= factors.max() + 1e-9


def test_groups_of_rows_know_the_same_variance_with_the_noise_of_their_number():
    """Also where the groups are not of one size."""
    rng, repetitions, groups = np.random.default_rng(1), 400, 20
    drawn = [draw(rng, 207) for _ in range(repetitions)]
    exact = np.array([ratio_error(*sums.T) ** 2 for sums in drawn])
    grouped = np.array([jackknife_error(sums, ratio, groups) ** 2 for sums in drawn])
    noise = math.sqrt(2 / (groups - 1))  # of one variance, relative
    assert abs(grouped.mean() / exact.mean() - 1) < 3 * noise / math.sqrt(repetitions)
    assert abs(np.std(grouped / exact) / noise - 1) < 0.25


def test_the_error_of_a_curved_metric_is_the_spread_of_repeated_evaluations():
    """A logarithm of a ratio of sums, whose error no formula for means gives."""
    rng = np.random.default_rng(2)
    metrics = {"log": Metric("log", finish=lambda s: 3 * math.log(s[0] / s[1]))}
    found = [finish({"log": draw(rng, 150)}, metrics) for _ in range(400)]
    spread, claimed = np.std([f["log"] for f in found]), np.mean([f["log_se"] for f in found])
    # 400 repetitions know a standard deviation to 1 / sqrt(800) = 3.5 %; three of those.
    assert abs(claimed / spread - 1) < 0.11


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 120), st.integers(0, 9), st.integers(0, 2**32 - 1))
def test_rows_that_fill_up_a_batch_change_nothing(rows, padding, seed):
    rng = np.random.default_rng(seed)
    # Whole numbers: no order of adding changes a sum.
    sums = np.stack([rng.integers(0, 9, size=rows), rng.integers(1, 9, size=rows)], axis=1)
    padded = np.insert(sums, np.sort(rng.integers(0, rows + 1, size=padding)), 0, axis=0)
    plain, filled = (finish({"loss": x, "ratio": x.astype(float)}, RATIO) for x in (sums, padded))
    assert np.array_equal(list(plain.values()), list(filled.values()), equal_nan=True)
    assert math.isnan(plain["loss"]) == (rows == 0)
    assert math.isnan(plain["ratio_se"]) == math.isnan(plain["loss_se"]) == (rows < 2)


def test_nothing_counted_is_nan_and_no_crash():
    for rows in (np.zeros((0, 2)), np.zeros((3, 2))):
        found = finish({"loss": rows, "ratio": rows}, RATIO)
        assert list(found) == ["loss", "ratio", "loss_se", "ratio_se"]
        assert all(math.isnan(number) for number in found.values())


def test_a_group_without_which_nothing_can_be_said_makes_the_error_nan():
    first = Metric("first", finish=lambda s: s[0] / s[1])
    found = finish({"first": np.array([[1.0, 1.0], [2.0, 0.0]])}, {"first": first})
    assert found["first"] == 3.0
    assert math.isnan(found["first_se"])


def test_a_statistic_that_is_no_mean_needs_a_finish():
    with pytest.raises(ValueError, match=r"bins: rows of shape \(4, 3\) are no \(total, count\)"):
        finish({"bins": np.zeros((5, 4, 3))}, {})


def test_all_that_finishes_and_the_records_of_objectives_are_read_without_jax():
    names = ("calibration", "finish", "linear_probe", "match", "moments")
    records = ("classification", "regression")
    modules = ", ".join(
        [f"scaling.metrics.{n}" for n in names] + [f"scaling.objectives.{n}" for n in records]
    )
    code = f"import sys, {modules}; sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
