"""The two towers and the temperature: images and texts to vectors that can be compared."""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.families import from_data
from scaling.families.two_towers import TwoTowersConfig
from scaling.models.layers import Array, Linear, parameter
from scaling.models.towers import ImageTower, TextTower, is_text, mean_over

_LARGEST = math.log(100)  # of the scale's logarithm, as in the original


class Network(nn.Module):
    """Means over each tower's places, one matrix each (Radford et al. 2021, CLIP, arXiv 2103.00020,
    section 2.3).
    """

    config: TwoTowersConfig

    @nn.compact
    def __call__(self, batch: Mapping[str, Array]) -> dict[str, Any]:
        """
        Args:
          batch: image float32 [B, Y, X, C]; text, text_segments int32 [B, T].

        Returns:
          image_embedding, text_embedding: float32 [B, E], of length 1; log_scale: float32 [1], the
          logarithm of what similarities are multiplied by; bias, float32 [1], where there is one.
        """
        c, there_BxT = self.config, is_text(batch)
        images = ImageTower(c, from_data.patch_sides(c), name="image")(batch["image"])
        texts = TextTower(c, name="text")(batch["text"], there_BxT)
        own = ("embed", "outputs")
        image_BxE = Linear(c.embedding, own, "float32", name="image_head")(mean_over(images))
        text_BxE = Linear(c.embedding, own, "float32", name="text_head")(
            mean_over(texts, there_BxT)
        )
        start = nn.initializers.constant(-math.log(c.temperature))
        log_scale_1 = parameter(self, "log_scale", start, (1,), ("norm",))
        outputs = {
            "image_embedding": _unit(image_BxE),
            "text_embedding": _unit(text_BxE),
            "log_scale": jnp.minimum(log_scale_1, _LARGEST),
        }
        if c.bias is not None:
            start = nn.initializers.constant(c.bias)
            outputs["bias"] = parameter(self, "bias", start, (1,), ("norm",))
        return outputs


def _unit(x_BxE: Array) -> Array:
    return x_BxE * jax.lax.rsqrt(jnp.square(x_BxE).sum(axis=-1, keepdims=True) + 1e-12)
