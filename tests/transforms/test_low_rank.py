"""Matrices stored as two thin ones: the nearest product of what is drawn, or was trained."""

import math

import jax
import numpy as np
import pytest
from stepping import begun, curve

from scaling.errors import ConfigError
from scaling.optim import subtree
from scaling.optim.roles import cut
from scaling.transforms import transform

LOW = {"transform.name": "low_rank", "transform.share": 0.5}


def leaves_of(tree):
    return dict(subtree.leaves(jax.device_get(tree)))


@pytest.fixture(scope="module")
def plain(tiny):
    """The model's own parameters, as they are drawn."""
    return leaves_of(begun(tiny())[2].params)


def singular(w, stacked, inputs):
    """Of each matrix of the stack, by NumPy, in float64."""
    rows = math.prod(w.shape[stacked : stacked + inputs])
    flat = np.float64(w).reshape(*w.shape[:stacked], rows, -1)
    return np.linalg.svd(flat, compute_uv=False)


def check_nearest(config, used, whole, share):
    leaves, factored = transform.leaves(config), 0
    for path, w in whole.items():
        found = cut(path, leaves[path].axes)
        if found is None:
            np.testing.assert_array_equal(used[path], w)
            continue
        stacked, inputs = found
        rows = math.prod(w.shape[stacked : stacked + inputs])
        least = min(rows, math.prod(w.shape[stacked + inputs :]))
        rank = max(1, round(share * least))
        # Of that rank, and as near as any of it can be (Eckart and Young 1936): where two singular
        # values are near each other, products that differ are equally near.
        s, left = singular(w, stacked, inputs), singular(used[path], stacked, inputs)
        assert np.all(left[..., rank:] <= 1e-5 * s[..., :1])
        distance = np.linalg.norm(singular(w - used[path], stacked, inputs), axis=-1)
        least_distance = np.linalg.norm(s[..., rank:], axis=-1)
        np.testing.assert_allclose(distance, least_distance, rtol=1e-5, atol=1e-5 * s.max())
        factored += 1
    assert factored


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_what_is_drawn_is_used_as_its_nearest_product(tiny, plain, share):
    config = tiny(LOW | {"transform.share": share})
    stored = begun(config)[2].params
    check_nearest(config, leaves_of(transform.used(config, stored)), plain, share)


def test_what_was_trained_is_factored_anew(tiny, plain):
    """As `train/begins.py` puts another run's parameters at their places."""
    config, rng = tiny(LOW), np.random.default_rng(0)
    functions, stored = transform.functions(config), begun(config)[2].params
    trained = {path: rng.normal(size=w.shape).astype(np.float32) for path, w in plain.items()}
    begins = functions.begun(stored, subtree.put(stored, subtree.nested(trained)))
    assert leaves_of(begins).keys() == leaves_of(stored).keys()
    check_nearest(config, leaves_of(functions.apply(begins)), trained, 0.5)


def test_the_density_is_what_is_stored_over_what_is_used(tiny, plain):
    config = tiny(LOW | {"transform.share": 0.25})
    stored = begun(config)[2].params
    expected = sum(x.size for x in leaves_of(stored).values()) / sum(x.size for x in plain.values())
    density = float(transform.functions(config).measured(stored)["density"])
    assert density == pytest.approx(expected, rel=1e-6)
    assert density < 1


@pytest.mark.slow
def test_its_updates_lower_the_loss_and_are_the_same_over_a_mesh(tiny):
    losses, _ = curve(tiny(LOW))
    assert losses[-1] < losses[0]
    mesh = {"mesh.fsdp": 2, "mesh.tensor": 2}
    spread, _ = curve(tiny(LOW | mesh), devices=4)
    np.testing.assert_allclose(spread, losses, rtol=1e-5)  # sums in another order


def test_what_cannot_be_is_named(tiny):
    with pytest.raises(ConfigError, match=r"transform\.share=0\.0 must be positive"):
        tiny(LOW | {"transform.share": 0})
    with pytest.raises(ConfigError, match="'quary' means none"):
        begun(tiny(LOW | {"transform.modules": "quary"}))
