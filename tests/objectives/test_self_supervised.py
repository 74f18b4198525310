"""Objectives without labels: what they compare, what they hide, what they refuse."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.config.contracts import Facts
from scaling.errors import ConfigError
from scaling.families import build
from scaling.families.convnet import FAMILY as CONVNET
from scaling.families.convnet import ConvNetConfig
from scaling.families.masked_autoencoder import FAMILY as AUTOENCODER
from scaling.families.masked_autoencoder import MaskedAutoencoderConfig, kept
from scaling.families.vit import FAMILY as VIT
from scaling.families.vit import ViTConfig
from scaling.objectives.contrastive_views import ContrastiveViewsConfig
from scaling.objectives.contrastive_views.rows import contrast, view
from scaling.objectives.masked_patches import MaskedPatchesConfig
from scaling.objectives.masked_patches.rows import rows as masked_rows
from scaling.objectives.rotation_prediction import RotationPredictionConfig
from scaling.objectives.rotation_prediction.rows import rows as rotation_rows

SIZES = {"height": 4, "image_width": 6, "channels": 1, "classes": 3}
FACTS = Facts("", 1, 1, SIZES)
DRAW = np.random.default_rng(0)


def batch(rows: int = 3, **fields: Any) -> dict[str, Any]:
    image = DRAW.normal(size=(rows, 4, 6, 1)).astype(np.float32)
    return {"image": image, "weight": np.ones(rows, np.float32)} | fields


# ---- two views


def test_the_contrastive_loss_is_that_of_loops():
    z = DRAW.normal(size=(4, 2, 5)).astype(np.float32)
    weight, temperature = np.array([1, 1, 0, 1], np.float32), 0.3
    losses, hits = contrast(z, weight, temperature)
    unit = z / np.linalg.norm(z, axis=-1, keepdims=True)
    views = [(i, v) for i in range(4) for v in range(2)]
    for i in (0, 1, 3):
        of_row, of_hits = [], []
        for v in range(2):
            others = [o for o in views if o != (i, v) and weight[o[0]]]
            cosines = {o: float(unit[i, v] @ unit[o]) / temperature for o in others}
            of_row.append(np.log(sum(map(np.exp, cosines.values()))) - cosines[i, 1 - v])
            of_hits.append(max(cosines, key=cosines.__getitem__) == (i, 1 - v))
        assert losses[i] == pytest.approx(np.mean(of_row), rel=1e-5)
        assert hits[i] == np.mean(of_hits)
    assert np.isfinite(losses).all()


@pytest.mark.slow
def test_views_go_by_their_key_and_are_the_image_where_nothing_changes():
    image = jnp.asarray(batch()["image"][0])
    off = ContrastiveViewsConfig(rotation=0, scale=0, shift=0, color=0, noise=0)
    # Linear between pixels, at pixels: rounding of the places.
    np.testing.assert_allclose(view(off, image, jax.random.key(0)), image, rtol=1e-4, atol=1e-4)
    on = ContrastiveViewsConfig()
    one, same, other = (view(on, image, jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).mean() > 0.05
    flips = functools.partial(view, dataclasses.replace(off, flip=True), image)
    mirrored = jax.vmap(flips)(jax.random.split(jax.random.key(0), 40))
    flipped = [bool(np.allclose(x, image[:, ::-1], rtol=1e-4, atol=1e-4)) for x in mirrored]
    assert 7 < sum(flipped) < 33  # of a fair coin, four standard deviations


# ---- quarter turns


def test_turns_need_square_images_and_four_classes():
    loss = rotation_rows(RotationPredictionConfig())
    fields = batch()
    with pytest.raises(ConfigError, match="4 x 6 pixels are not square"):
        jax.eval_shape(lambda: loss.rows_by(lambda b: {}, fields, None, {}))
    square = fields | {"image": fields["image"][:, :, :4]}
    with pytest.raises(ConfigError, match=r"has 3 outputs; give model\.classes=4"):
        jax.eval_shape(
            lambda: loss.rows_by(lambda b: {"out": jnp.zeros((12, 3))}, square, None, {})
        )


def test_who_knows_the_turn_has_no_loss():
    loss = rotation_rows(RotationPredictionConfig())
    image = np.zeros((2, 4, 4, 1), np.float32)
    image[:, 0, 0] = 1.0  # where the corner goes tells the turn

    def model(fields: Any) -> Any:
        x = fields["image"][..., 0]
        corners = jnp.stack([x[:, 0, 0], x[:, 3, 0], x[:, 3, 3], x[:, 0, 3]], axis=1)
        return {"out": 50 * corners}

    found = loss.rows_by(model, {"image": image, "weight": jnp.ones(2)}, None, {}).sums
    assert float(found["loss"].mean.max()) < 1e-6
    assert float(found["accuracy"].mean.min()) == 1.0


# ---- hidden patches


@pytest.fixture(scope="module")
def autoencoder() -> Any:
    """(model, params, kept patches) of six patches, of which two are seen."""
    config = MaskedAutoencoderConfig(width=8, depth=1, heads=2, masked=0.7, pool="class")
    found = AUTOENCODER.resolve(config, FACTS)
    module = build(found)
    init = jax.jit(module.init)(jax.random.key(0), {"image": jnp.zeros((1, 4, 6, 1))})
    return module, nn.unbox(init["params"]), kept(found)


@pytest.mark.slow
def test_what_is_hidden_is_not_seen(autoencoder: Any):
    """No prediction and no feature depends on a hidden pixel, and some on each that is seen."""
    module, params, seen = autoencoder
    assert seen == 2
    image, keys = batch(2)["image"], jax.random.split(jax.random.key(1), 2)

    def outputs(image: Any) -> Any:
        found = module.apply({"params": params}, {"image": image, "key": keys})
        return jnp.concatenate([found["features"].ravel(), found["patches"].ravel()])

    found = module.apply({"params": params}, {"image": image, "key": keys})
    np.testing.assert_array_equal(found["masked"].sum(axis=1), 4.0)
    assert (found["masked"][0] != found["masked"][1]).any()
    slope = np.abs(jax.jit(jax.jacrev(outputs))(image)).sum(axis=0)
    patches = slope.reshape(2, 2, 2, 3, 2).transpose(0, 1, 3, 2, 4).reshape(2, 6, 4)
    np.testing.assert_array_equal((patches > 0).all(axis=2), found["masked"] == 0)
    np.testing.assert_array_equal((patches == 0).all(axis=2), found["masked"] == 1)


@pytest.mark.slow
def test_the_encoder_is_that_of_a_vision_transformer(autoencoder: Any):
    """Of the same names and shapes, and of the same features where nothing is hidden."""
    module, params, _ = autoencoder
    vit = VIT.resolve(ViTConfig(width=8, depth=1, heads=2, pool="class"), FACTS)
    image = batch()["image"]
    like = nn.unbox(jax.eval_shape(build(vit).init, jax.random.key(0), {"image": image})["params"])
    encoder = {name: tree for name, tree in params.items() if name != "decoder"}
    head = jax.tree.map(lambda x: jnp.zeros(x.shape), like.pop("head"))
    assert jax.tree.map(jnp.shape, encoder) == jax.tree.map(jnp.shape, like)
    theirs = build(vit).apply({"params": encoder | {"head": head}}, {"image": image})
    ours = module.apply({"params": params}, {"image": image})
    np.testing.assert_allclose(ours["features"], theirs["features"], rtol=1e-5, atol=1e-5)
    assert not ours["masked"].any()


def test_only_hidden_pixels_count():
    """A prediction that is right where patches are hidden has no loss, be it wrong elsewhere."""
    fields = batch(2)
    cut = jnp.asarray(DRAW.normal(size=(2, 6, 4)).astype(np.float32))
    masked = jnp.asarray([[1.0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 0]])
    for normalise in (False, True):
        loss = masked_rows(MaskedPatchesConfig(normalise=normalise))
        target = cut
        if normalise:
            target = (cut - cut.mean(-1, keepdims=True)) / (cut.std(-1, keepdims=True) + 1e-6)
        wrong = target + 7 * (1 - masked)[..., None] + 2 * masked[..., None]

        def model(_: Any, wrong: Any = wrong) -> Any:
            return {"cut": cut, "masked": masked, "patches": wrong}

        sums = loss.rows_by(model, fields, jnp.zeros(2), {}).sums
        np.testing.assert_allclose(sums["loss"].total, 4.0, rtol=1e-4)  # the epsilon of a norm


def test_autoencoders_that_cannot_be():
    with pytest.raises(ConfigError, match=r"model\.decoder_width=5 is not divisible by"):
        AUTOENCODER.resolve(MaskedAutoencoderConfig(decoder_width=5), FACTS)
    one = Facts("", 1, 1, SIZES | {"height": 6})
    with pytest.raises(ConfigError, match="leaves one patch of an image"):
        AUTOENCODER.resolve(MaskedAutoencoderConfig(patch=6), one)


def test_a_head_of_two_layers_stands_behind_the_features():
    config = CONVNET.resolve(ConvNetConfig(width=4, block="plain", head_width=6, classes=5), FACTS)
    module, image = build(config), {"image": jnp.zeros((2, 4, 6, 1))}
    shapes = nn.unbox(jax.eval_shape(module.init, jax.random.key(0), image)["params"])
    assert shapes["head_hidden"]["matrix"]["w"].shape == (16, 6)
    found = jax.eval_shape(module.apply, {"params": shapes}, image)
    assert (found["features"].shape, found["out"].shape) == ((2, 16), (2, 5))
