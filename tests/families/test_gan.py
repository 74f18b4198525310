"""Generator and discriminator: their forms, what they read and make, the norm of their kernels."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import boxed, check_axes, close_trees, count, facts, module_of, relative

from scaling.errors import ConfigError
from scaling.families.gan import FAMILY, GANConfig, smallest
from scaling.models import spectral

SHAPE = (8, 12, 2)
FACTS = facts(height=8, image_width=12, channels=2, classes=3)


def config(**fields: Any) -> GANConfig:
    small = GANConfig(width=4, depth=2, latent=5)
    return FAMILY.resolve(dataclasses.replace(small, **fields), FACTS)


SMALL = config()


def params_of(config: GANConfig) -> Any:
    return nn.unbox(boxed(FAMILY, config, SHAPE))


def images(rows: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, *SHAPE)).astype(np.float32)


def keys(rows: int = 3) -> Any:
    return jax.random.split(jax.random.key(7), rows)


def loss_and_gradient(config: GANConfig) -> Any:
    """(params, x) -> of a loss that is of no use but depends on every parameter."""

    def loss(params: Any, x: Any) -> Any:
        out = module_of(FAMILY, config).apply({"params": params}, {"image": x, "key": keys()})
        return (out["score"] ** 2).sum() + (out["sample"] ** 2).mean() + out["sample"][0, 0, 0, 0]

    return jax.value_and_grad(loss)


@pytest.mark.exhaustive
@pytest.mark.parametrize("fields", [{}, {"spectral": 2}, {"halvings": 0}])
def test_scanned_unrolled_and_computed_again_are_the_same(fields):
    one = config(**fields)
    params = params_of(one)
    expected = jax.jit(loss_and_gradient(one))(params, images())
    for change in ({"scan_layers": False}, {"remat": "full"}):
        other = dataclasses.replace(one, **change)
        # Sums over places in another order, through six norms.
        actual = jax.jit(loss_and_gradient(other))(params, images())
        close_trees(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_what_is_asked_for_is_computed():
    apply = lambda batch: module_of(FAMILY, SMALL).apply({"params": params_of(SMALL)}, batch)  # noqa: E731
    everything = apply({"image": images()})
    assert FAMILY.gives == everything.keys()
    assert everything["sample"].shape == (3, *SHAPE)
    assert everything["score"].shape == (3,)
    assert everything["features"].shape == (3, 4)
    assert apply({"key": keys()}).keys() == {"sample"}
    assert apply({"image": images(), "key": None}).keys() == {"score", "features"}


def test_rows_do_not_meet():
    """A sample is a function of its key alone, a score of its image."""
    apply = jax.jit(lambda batch: module_of(FAMILY, SMALL).apply({"params": params}, batch))
    params = params_of(SMALL)
    together = apply({"image": images(), "key": keys()})
    for i in range(3):
        alone = apply({"image": images()[i : i + 1], "key": keys()[i : i + 1]})
        for name, x in alone.items():
            np.testing.assert_allclose(x[0], together[name][i], rtol=1e-5, atol=1e-5)
    assert np.std(together["sample"], axis=0).min() > 0


ASKED = config(conditional=True, depth=1, halvings=0)


@pytest.fixture(scope="module")
def asked() -> Any:
    """(compiled network, parameters) of a conditional model."""
    module, labels = module_of(FAMILY, ASKED), jnp.zeros(1, jnp.int32)
    row = {"image": jnp.zeros((1, *SHAPE)), "label": labels}
    params = nn.unbox(jax.jit(module.init)(jax.random.key(0), row)["params"])
    return jax.jit(lambda batch: module.apply({"params": params}, batch)), params


def test_the_class_that_is_asked_for_decides_sample_and_score(asked):
    apply, params = asked
    batch = {"image": images(), "key": keys()}
    one, other = (apply({**batch, "label": np.full(3, label, np.int32)}) for label in (0, 2))
    assert np.abs(one["sample"] - other["sample"]).max(axis=(1, 2, 3)).min() > 0.05
    np.testing.assert_array_equal(one["features"], other["features"])
    # What the score of a class has of its own is linear in the features.
    w = params["discriminator"]["class_head"]["w"][0, 0]
    own = one["features"] @ (w[:, 2] - w[:, 0])
    np.testing.assert_allclose(other["score"] - one["score"], own, rtol=1e-4, atol=1e-5)


def test_a_latent_in_the_place_of_its_key(asked):
    apply, _ = asked
    batch = {"image": images(), "label": np.zeros(3, np.int32)}
    latent = jax.vmap(lambda key: jax.random.normal(key, (ASKED.latent,)))(keys())
    made = [apply(batch | more)["sample"] for more in ({"key": keys()}, {"latent": latent})]
    np.testing.assert_allclose(made[0], made[1], rtol=1e-5, atol=1e-5)  # another program


def test_classes_are_those_of_the_data():
    assert config().classes is None
    assert ASKED.classes == 3
    assert FAMILY.resolve(ASKED, FACTS) == ASKED
    with pytest.raises(ConfigError, match=r"model\.classes=4, but the data have 3"):
        config(conditional=True, classes=4)
    with pytest.raises(ConfigError, match=r"set that, or leave it unset"):
        config(classes=3)
    unnamed = facts(height=8, image_width=12, channels=2)
    with pytest.raises(ConfigError, match=r"but the data have no classes"):
        FAMILY.resolve(GANConfig(conditional=True), unnamed)


def test_the_sizes_of_image_and_parameters():
    assert (SMALL.height, SMALL.image_width, SMALL.channels) == SHAPE
    assert (SMALL.halvings, SMALL.group, smallest(SMALL)) == (1, 4, (4, 6))
    assert FAMILY.resolve(SMALL, FACTS) == SMALL
    for side, halvings, first in ((32, 3, 4), (28, 2, 7), (7, 0, 7), (4, 0, 4)):
        square = facts(height=side, image_width=side, channels=1)
        one = FAMILY.resolve(GANConfig(), square)
        assert (one.halvings, smallest(one)) == (halvings, (first, first))
    w, kernel = 4, 9
    block = 2 * kernel * w * w
    made = 5 * 24 * w + 24 * w + 4 * (block + 4 * w) + 2 * w + kernel * w * 2 + 2
    scored = kernel * 2 * w + 4 * block + w + 1
    assert count(params_of(SMALL)) == made + scored
    assert count(params_of(SMALL)["discriminator"]) == scored


def test_every_parameter_has_logical_axes():
    tree = boxed(FAMILY, SMALL, SHAPE)
    check_axes(tree)
    assert tree.keys() == {"generator", "discriminator"}


@pytest.mark.slow
def test_bfloat16_is_near_float32():
    batch = {"image": images(), "key": keys()}
    one, other = (
        module_of(FAMILY, config(dtype=d)).apply({"params": params_of(SMALL)}, batch)
        for d in ("float32", "bfloat16")
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(other)} == {jnp.dtype("float32")}
    assert relative(one, other) < 0.05  # eight bits of mantissa, through ten convolutions


def test_the_largest_singular_value():
    w = np.random.default_rng(0).normal(size=(3, 3, 6, 5)).astype(np.float32)
    wanted = np.linalg.svd(w.reshape(-1, 5), compute_uv=False)[0]
    found = [float(spectral.largest(jnp.asarray(w.reshape(-1, 5)), n)) for n in (1, 2, 4, 30)]
    assert found == sorted(found)  # from below
    assert found[0] > 0.6 * wanted
    assert found[-1] == pytest.approx(wanted, rel=1e-5)
    gradient = jax.grad(lambda w: spectral.largest(w, 30))(jnp.asarray(w.reshape(-1, 5)))
    left, _, right = np.linalg.svd(w.reshape(-1, 5), full_matrices=False)
    # Vectors that 30 steps find to the square root of what the value is off by.
    np.testing.assert_allclose(gradient, np.outer(left[:, 0], right[0]), atol=1e-3)
    assert not np.any(spectral.normalised(jnp.zeros((3, 3, 2, 2)), 2))


def test_a_normalised_discriminator_does_not_know_the_scale_of_its_kernels():
    one = config(spectral=4)
    params = params_of(one)["discriminator"]

    def score(scale: float) -> Any:
        kernels = jax.tree.map(lambda p: p * scale if p.ndim >= 4 else p, params)
        whole = {"generator": params_of(one)["generator"], "discriminator": kernels}
        batch = {"image": images(), "key": None}
        return module_of(FAMILY, one).apply({"params": whole}, batch)["score"]

    np.testing.assert_allclose(score(8.0), score(1.0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"halvings": 3}, r"model\.halvings=3, but images of 8 x 12 pixels are not divisible by 8"),
        ({"group": 3}, r"model\.width=4 is not divisible by model\.group=3"),
        ({"channels": 1}, r"model\.channels=1, but the data have 2"),
    ],
)
def test_what_does_not_divide_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        config(**fields)


def test_data_without_images_are_refused():
    with pytest.raises(ConfigError, match=r"model\.family=gan makes images"):
        FAMILY.resolve(GANConfig(), facts(features=4, targets=1))
