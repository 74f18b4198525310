"""Two towers and fusions: what they read, what they ignore, what they refuse."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.config.contracts import Facts
from scaling.errors import ConfigError
from scaling.families import fusion, two_towers
from scaling.families.fusion.network import Network as Fusion
from scaling.families.two_towers.network import Network as TwoTowers

SIZES = {"vocab": 7, "height": 8, "image_width": 8, "channels": 1, "classes": 3, "text_len": 6}
FACTS = Facts("", 1, 1, SIZES)
SMALL = {"width": 8, "depth": 1, "heads": 2, "stem": 2}
OTHERS = ("concatenation", "average", "gated")


def batch() -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    segments = np.ones((2, 6), np.int32)
    segments[:, 4:] = 0
    return {
        "image": jnp.asarray(rng.normal(size=(2, 8, 8, 1)), jnp.float32),
        "text": jnp.asarray(rng.integers(0, 7, (2, 6)), jnp.int32),
        "text_segments": jnp.asarray(segments),
    }


def applied(module: nn.Module) -> Any:
    params = nn.unbox(jax.jit(module.init)(jax.random.key(0), batch()))
    return jax.jit(lambda fields: module.apply(params, batch() | fields))


def resolved(record: Any, config: Any, **fields: Any) -> Any:
    return record.resolve(dataclasses.replace(config, **SMALL, **fields), FACTS)


def test_vectors_have_length_one_and_a_temperature_that_is_learned():
    config = resolved(two_towers.FAMILY, two_towers.TwoTowersConfig(), bias=-10.0, embedding=5)
    out = applied(TwoTowers(config))({})
    for name in ("image_embedding", "text_embedding"):
        assert out[name].shape == (2, 5)
        np.testing.assert_allclose(jnp.square(out[name]).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(jnp.exp(out["log_scale"]), [1 / 0.07], rtol=1e-5)
    assert out["bias"] == -10


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=pytest.mark.slow) for how in ("cross", *OTHERS)]
)
def test_a_fusion_reads_both_and_nothing_behind_the_text(how: Any):
    call = applied(Fusion(resolved(fusion.FAMILY, fusion.FusionConfig(), fusion=how)))
    whole, text = call({})["out"], batch()["text"]
    behind = call({"text": text.at[:, 4:].add(1)})["out"]
    np.testing.assert_allclose(behind, whole, rtol=1e-5, atol=1e-5)
    for other in ({"text": (text + 1) % 7}, {"image": 2 * batch()["image"]}):
        assert np.abs(call(other)["out"] - whole).max() > 1e-3


def test_what_cannot_be_resolved():
    for facts, said in (
        ({"classes": 1}, r"set data\.task=questions"),
        ({"height": 6}, r"model\.patch=4 does not divide"),
    ):
        with pytest.raises(ConfigError, match=said):
            fusion.FAMILY.resolve(fusion.FusionConfig(), Facts("", 1, 1, SIZES | facts))
