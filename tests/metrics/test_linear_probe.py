"""The probe that sums give is the one that all rows at once give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.metrics import statistics
from scaling.metrics.finish import finish
from scaling.metrics.linear_probe import mean_squared_error, solve

FEATURES, CLASSES = 5, 3
RNG = np.random.default_rng(0)
CENTRES = 2 * RNG.normal(size=(CLASSES, FEATURES))


def draw(rows: int) -> tuple[np.ndarray, np.ndarray]:
    label = RNG.integers(0, CLASSES, size=rows)
    return np.float32(CENTRES[label] + RNG.normal(size=(rows, FEATURES))), label


def sums(features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    z = statistics.augmented(jnp.asarray(features), jnp.asarray(targets, jnp.float32))
    rows = statistics.second_moments(z, jnp.ones(len(features)))
    return np.asarray(rows, np.float64).sum(axis=0)


def with_ones(features: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones((len(features), 1)), features], axis=1)


X, LABEL = draw(200)
Y = np.eye(CLASSES)[LABEL]


def test_without_a_penalty_it_is_least_squares():
    wanted = np.linalg.lstsq(with_ones(X), Y, rcond=None)[0]
    # The products are float32.
    np.testing.assert_allclose(solve(sums(X, Y), FEATURES), wanted, rtol=1e-4, atol=1e-5)


def test_with_one_it_is_ridge_regression_with_a_free_intercept():
    l2, root = 0.3, np.sqrt(0.3 * len(X))
    penalty = np.concatenate([np.zeros((FEATURES, 1)), root * np.eye(FEATURES)], axis=1)
    rows = np.concatenate([with_ones(X), penalty])
    wanted = np.linalg.lstsq(rows, np.concatenate([Y, np.zeros((FEATURES, CLASSES))]), rcond=None)
    found = solve(sums(X, Y), FEATURES, l2)
    np.testing.assert_allclose(found, wanted[0], rtol=1e-4, atol=1e-5)
    # Moving all targets moves the intercept alone.
    moved = solve(sums(X, Y + 7), FEATURES, l2)
    np.testing.assert_allclose(moved[1:], found[1:], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(moved[0], found[0] + 7, rtol=1e-4)


@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_a_feature_twice_and_one_that_never_varies_change_no_prediction(l2):
    """Such features have no single solution; the smallest shares the weight among the two."""
    twice = np.concatenate([X, X[:, :1], np.full((len(X), 1), 3, np.float32)], axis=1)
    found = solve(sums(twice, Y), FEATURES + 2, l2)
    np.testing.assert_allclose(found[1], found[-2], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[-1], 0, atol=1e-6)
    if not l2:
        wanted = with_ones(X) @ solve(sums(X, Y), FEATURES)
        np.testing.assert_allclose(with_ones(twice) @ found, wanted, atol=1e-4)


def test_accuracy_on_a_held_out_set_is_that_of_its_predictions():
    coefficients = solve(sums(X, Y), FEATURES)
    held_out, label = draw(101)
    weight = RNG.integers(0, 2, size=101)
    rows = statistics.hits(*(jnp.asarray(x) for x in (held_out, label, weight, coefficients)))
    right = (with_ones(held_out) @ coefficients).argmax(axis=1) == label
    found = finish({"probe": np.asarray(rows, np.float64)}, {})
    assert found["probe"] == right[weight == 1].mean() > 0.8


def test_the_held_out_squared_error_is_in_the_sums():
    coefficients = solve(sums(X, Y), FEATURES, 0.1)
    held_out, label = draw(70)
    targets = np.asarray(jax.nn.one_hot(label, CLASSES))
    wanted = np.sum((with_ones(held_out) @ coefficients - targets) ** 2, axis=1).mean()
    found = mean_squared_error(sums(held_out, targets), coefficients)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_nothing_to_learn_from_is_nan():
    size = 1 + FEATURES + CLASSES
    assert np.isnan(solve(np.zeros((size, size)), FEATURES)).all()
    assert np.isnan(solve(np.full((size, size), np.nan), FEATURES)).all()
    assert np.isnan(mean_squared_error(np.zeros((size, size)), np.zeros((1 + FEATURES, CLASSES))))
