"""The families whose places are patches of an image: published sizes, and what they tell apart."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import boxed, count, facts, module_of

from scaling.config.contracts import Family
from scaling.errors import ConfigError
from scaling.families.mixer import FAMILY as MIXER
from scaling.families.mixer import MixerConfig
from scaling.families.vit import FAMILY as VIT
from scaling.families.vit import ViTConfig

LARGE = facts(height=224, image_width=224, channels=3, classes=1000)
FACTS = facts(height=4, image_width=6, channels=1, classes=3)
SMALL = ViTConfig(width=8, depth=1, heads=2)


@pytest.mark.parametrize(
    ("family", "config", "params"),
    [
        # Dosovitskiy et al. 2021, table 1, as timm counts it: ViT-B/16
        (VIT, ViTConfig(width=768, depth=12, heads=12, patch=16), 86_567_656),
        # Tolstikhin et al. 2021, table 1, likewise: Mixer-B/16
        (MIXER, MixerConfig(width=768, depth=12, patch=16), 59_880_472),
    ],
)
def test_published_counts(family: Family, config: Any, params: int) -> None:
    one = family.resolve(config, LARGE)
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    shapes = jax.eval_shape(module_of(family, one).init, jax.random.key(0), {"image": image})
    assert count(shapes) == params == family.size(one, None).params


def outputs(config: ViTConfig, images: np.ndarray) -> np.ndarray:
    one = VIT.resolve(config, FACTS)
    params = nn.unbox(boxed(VIT, one, images.shape[1:]))
    apply = jax.jit(module_of(VIT, one).apply)
    return np.asarray(apply({"params": params}, {"image": images})["out"])


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["mean", pytest.param("class", marks=pytest.mark.slow)])
def test_only_learned_positions_tell_the_order_of_patches(pool: Any) -> None:
    image = np.random.default_rng(0).normal(size=(1, 4, 6, 1)).astype(np.float32)
    moved = np.concatenate([image[:, :, 2:], image[:, :, :2]], axis=2)  # by one column of patches
    for positions, same in (("none", True), ("learned", False)):
        config = dataclasses.replace(SMALL, pool=pool, positions=positions)
        close = np.allclose(outputs(config, image), outputs(config, moved), rtol=1e-5, atol=1e-5)
        assert close == same


def test_every_patch_sees_every_other() -> None:
    """Those behind it too: the first patch's features depend on the last pixel."""
    one = VIT.resolve(dataclasses.replace(SMALL, pool="class"), FACTS)
    image = np.random.default_rng(0).normal(size=(1, 4, 6, 1)).astype(np.float32)
    params = nn.unbox(boxed(VIT, one, image.shape[1:]))
    apply = module_of(VIT, one).apply

    def out(image: Any) -> Any:
        return apply({"params": params}, {"image": image})["out"].sum()

    slope = jax.jit(jax.grad(out))
    assert (np.abs(slope(image)) > 0).all()


def test_one_row_has_patches_of_one_row() -> None:
    row = facts(height=1, image_width=6, channels=1, classes=3)
    found = MIXER.resolve(MixerConfig(width=8, depth=1, patch=3), row)
    shapes = jax.eval_shape(
        module_of(MIXER, found).init, jax.random.key(0), {"image": jnp.zeros((1, 1, 6, 1))}
    )
    assert count(shapes) == MIXER.size(found, None).params


def test_patches_that_do_not_cover_the_image_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.patch=4 does not divide images of 4 x 6"):
        VIT.resolve(dataclasses.replace(SMALL, patch=4), FACTS)
