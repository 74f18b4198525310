"""Calibration error and Brier score: what they are for predictors whose calibration is known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.metrics import calibration, statistics


def error(confidence, correct, bins=calibration.BINS) -> float:
    weight = jnp.ones(len(confidence))
    of = jax.jit(statistics.calibration, static_argnums=3)
    rows = of(jnp.asarray(confidence), jnp.asarray(correct), weight, bins)
    return calibration.expected_error(np.asarray(rows, np.float64).sum(axis=0))


def test_a_calibrated_predictor_has_an_error_of_chance_alone():
    rng, examples = np.random.default_rng(0), 30_000
    confidence = rng.uniform(size=examples).astype(np.float32)
    found = error(confidence, rng.uniform(size=examples) < confidence)
    # By chance a bin of n examples is off by |N(0, 1)| / (2 sqrt(n)) at most, 0.4 / sqrt(n) with a
    # spread of 0.3 / sqrt(n): their mean, and three of its spreads.
    bins = calibration.BINS
    assert 0 < found < (0.4 + 3 * 0.3 / math.sqrt(bins)) / math.sqrt(examples / bins)


@pytest.mark.parametrize("confidence", [0.7, 0.9, 1.0])
def test_an_overconfident_predictor_errs_by_what_it_is_overconfident(confidence):
    correct = np.arange(1000) % 2 == 0
    found = error(np.full(1000, confidence, np.float32), correct)
    assert found == pytest.approx(confidence - 0.5, rel=1e-5)  # float32 sums


def test_opposite_errors_in_two_bins_do_not_cancel():
    confidence = np.repeat(np.float32([0.3, 0.7]), 10)
    correct = np.repeat([True, False], 10)
    assert error(confidence, correct) == pytest.approx(0.7, rel=1e-5)
    assert error(confidence, correct, bins=1) == pytest.approx(0.0, abs=1e-6)


def test_bins_are_open_below_and_closed_above():
    """(0, 1/4], (1/4, 1/2], ...; 0 is in the first."""
    edges = jnp.array([0.0, 0.25, 0.5, 0.75, 1.0])
    rows = statistics.calibration(edges, jnp.zeros(5), jnp.ones(5), bins=4)
    np.testing.assert_array_equal(rows[..., 0].argmax(axis=1), [0, 0, 1, 2, 3])


def test_the_error_is_its_definition_bin_by_bin():
    rng = np.random.default_rng(1)
    confidence = rng.uniform(size=500).astype(np.float32)
    correct = rng.uniform(size=500) < confidence**2
    wanted, bins = 0.0, 10
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        gap = abs(correct[inside].mean() - confidence[inside].astype(float).mean())
        wanted += inside.mean() * gap
    assert error(confidence, correct, bins) == pytest.approx(wanted, rel=1e-5)


def test_answers_of_one_row_add_up():
    rng = np.random.default_rng(2)
    confidence, correct = rng.uniform(size=(3, 7)), rng.integers(0, 2, size=(3, 7))
    weight = rng.integers(0, 2, size=(3, 7)).astype(float)
    flat = (x.reshape(-1) for x in (confidence, correct, weight))
    rows = statistics.calibration(*(jnp.asarray(x) for x in (confidence, correct, weight)))
    alone = statistics.calibration(*(jnp.asarray(x) for x in flat))
    assert rows.shape == (3, calibration.BINS, 3)
    wanted = alone.reshape(3, 7, calibration.BINS, 3).sum(axis=1)
    np.testing.assert_allclose(rows, wanted, rtol=1e-5)  # sums in another order


def test_an_empty_set_has_no_error_and_an_empty_bin_no_accuracy():
    assert math.isnan(calibration.expected_error(np.zeros((5, 3))))
    shown = calibration.reliability(np.array([[4.0, 1.0, 2.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_array_equal(shown, [[1.0, 0.25, 0.5], [0.0, np.nan, np.nan]])


def test_the_brier_score_is_0_if_right_and_sure_2_if_wrong_and_sure():
    sure = jax.nn.one_hot(jnp.array([2, 0]), 4)
    np.testing.assert_array_equal(statistics.brier(sure, jnp.array([2, 1])), [0.0, 2.0])
    even = jnp.full((1, 4), 0.25)
    np.testing.assert_allclose(statistics.brier(even, jnp.array([3])), [0.75**2 + 3 * 0.25**2])
