"""Statistics add up: over any split into batches, and without what has no weight."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.metrics import statistics

ROWS, FEATURES, CLASSES = 12, 3, 4
RNG = np.random.default_rng(0)
FEATURES_BxF = jnp.asarray(RNG.normal(size=(ROWS, FEATURES)), jnp.float32)
LABEL_B = jnp.asarray(RNG.integers(0, CLASSES, size=ROWS))
WEIGHT_B = jnp.asarray(RNG.integers(0, 2, size=ROWS), jnp.float32)
COEFFICIENTS = jnp.asarray(RNG.normal(size=(1 + FEATURES, CLASSES)), jnp.float32)


def calibration(features_BxF, label_B, weight_B):
    confidence_B = jax.nn.softmax(features_BxF).max(axis=-1)
    return statistics.calibration(confidence_B, label_B == 1, weight_B)


def moments(features_BxF, label_B, weight_B):
    z_BxN = statistics.augmented(features_BxF, jax.nn.one_hot(label_B, CLASSES))
    return statistics.second_moments(z_BxN, weight_B)


def hits(features_BxF, label_B, weight_B):
    return statistics.hits(features_BxF, label_B, weight_B, COEFFICIENTS)


ALL = pytest.mark.parametrize("of", [calibration, moments, hits], ids=lambda f: f.__name__)


@ALL
@pytest.mark.parametrize("cuts", [(5,), (4, 8), tuple(range(1, ROWS))])
def test_any_split_into_batches_adds_up_to_the_same(of, cuts):
    of = jax.jit(of)
    whole = of(FEATURES_BxF, LABEL_B, WEIGHT_B)
    bounds = [0, *cuts, ROWS]
    pieces = [
        of(*(x[a:b] for x in (FEATURES_BxF, LABEL_B, WEIGHT_B)))
        for a, b in itertools.pairwise(bounds)
    ]
    # Row by row the same numbers; programs of other shapes may round a product differently.
    np.testing.assert_allclose(jnp.concatenate(pieces), whole, rtol=1e-6)


@ALL
def test_rows_without_weight_are_zeros_whatever_stands_in_them(of):
    rows = of(FEATURES_BxF, LABEL_B, WEIGHT_B)
    lost = FEATURES_BxF.at[WEIGHT_B == 0].set(jnp.nan)
    np.testing.assert_array_equal(of(lost, LABEL_B, WEIGHT_B), rows)
    assert not rows[WEIGHT_B == 0].any()
    assert rows[WEIGHT_B == 1].reshape(int(WEIGHT_B.sum()), -1).any(axis=1).all()


@ALL
def test_rows_over_devices_and_members_side_by_side_give_the_same(of):
    batch = FEATURES_BxF, LABEL_B, WEIGHT_B
    whole = jax.jit(of)(*batch)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.NamedSharding(mesh, jax.P("data"))
    placed = [jax.device_put(x, split) for x in batch]
    np.testing.assert_allclose(jax.jit(of)(*placed), whole, rtol=1e-6)
    members = [jnp.stack([x, x[::-1]]) for x in batch]
    found = jax.jit(jax.vmap(of))(*members)
    np.testing.assert_allclose(found, jnp.stack([whole, whole[::-1]]), rtol=1e-6)


@pytest.mark.parametrize("each", [1, 3, 12])
def test_second_moments_of_several_rows_are_the_sum_of_theirs(each):
    z_BxN = statistics.augmented(FEATURES_BxF)
    of = functools.partial(statistics.second_moments, z_BxN, WEIGHT_B)
    wanted = of().reshape(ROWS // each, each, 1 + FEATURES, 1 + FEATURES).sum(axis=1)
    np.testing.assert_allclose(of(each), wanted, rtol=1e-5, atol=1e-6)  # another order
    exact = np.asarray(z_BxN, np.float64) * np.sqrt(np.asarray(WEIGHT_B))[:, None]
    np.testing.assert_allclose(of(each).sum(axis=0), exact.T @ exact, rtol=1e-5, atol=1e-5)


def test_pieces_must_divide_the_batch():
    with pytest.raises(ValueError, match="12 rows are not cut into pieces of 5"):
        statistics.second_moments(FEATURES_BxF, WEIGHT_B, 5)
