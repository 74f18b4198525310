"""Attributions of functions whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.explain.attributions import integrated_gradients, occlusion, squares

X = jax.random.normal(jax.random.key(0), (1, 5))
BASE = jax.random.normal(jax.random.key(1), (1, 5))
W = jax.random.normal(jax.random.key(2), (5,))


def test_a_linear_function_is_attributed_exactly_by_both():
    def of(_, x):
        return (x[0] * W).sum()

    wanted = np.asarray(W * (X - BASE)[0])
    found = integrated_gradients(of, (), X, BASE)
    np.testing.assert_allclose(found.scores[0], wanted, rtol=1e-5, atol=1e-6)
    assert found.steps == 32  # nothing is to be made finer
    lost = occlusion(of, (), X, BASE, np.arange(5)[None])
    np.testing.assert_allclose(lost, wanted, rtol=1e-4, atol=1e-5)


def test_what_two_inputs_make_together_is_shared_and_nothing_is_left_over():
    """x y, from the origin: half of it each (the mean of y's way is y / 2)."""
    found = integrated_gradients(lambda _, x: x[0, 0] * x[0, 1], (), X, jnp.zeros_like(X))
    product = float(X[0, 0] * X[0, 1])
    np.testing.assert_allclose(found.scores[0, :2], [product / 2] * 2, rtol=1e-5)
    np.testing.assert_array_equal(found.scores[0, 2:], 0)


def test_a_kink_takes_more_gradients_and_the_sum_holds():
    def of(_, x):
        return jnp.maximum(0, 3 * (x[0] * W).sum() - 0.5) + jnp.tanh(20 * x[0, 0] - 3)

    found = integrated_gradients(of, (), X, BASE)
    assert found.gap <= 1e-3
    assert found.steps > 32
    assert integrated_gradients(of, (), X, BASE, most=32).gap > found.gap


@pytest.mark.parametrize(("height", "width", "side", "count"), [(8, 8, 2, 16), (5, 7, 3, 6)])
def test_squares_cover_an_image_once(height, width, side, count):
    found = squares(height, width, side)
    assert found.shape == (1, height, width, 1)
    sizes = np.bincount(found.ravel())
    assert len(sizes) == count
    assert sizes.max() == side**2
    assert sizes.min() > 0
