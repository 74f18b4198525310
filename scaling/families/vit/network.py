"""The vision transformer: images to logits.

Takes a resolved ViTConfig and a batch of images. The blocks are the transformer's own, as an
encoder has them (`scaling/models/blocks.py`).
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.config.amounts import resolved
from scaling.families import from_data
from scaling.families.vit import ViTConfig, encoder
from scaling.models.blocks import init_blocks, run_blocks
from scaling.models.dropout import OUTSIDE, Keys, dropped, keys_of
from scaling.models.fields import EncoderConfig
from scaling.models.layers import NORMS, Array, Linear, constrain, parameter, truncated_normal
from scaling.models.patches import Patches

OWN = 0.02  # initial std of what an image has no part in: positions, and the class's place


class Network(nn.Module):
    """Patches, blocks, a norm, one matrix (Dosovitskiy et al. 2021, arXiv 2010.11929, figure 1)."""

    config: ViTConfig

    @nn.compact
    def __call__(self, batch: Mapping[str, Array]) -> dict[str, Any]:
        """
        Args:
          batch: image, float32 [B, Y, X, C].

        Returns:
          out: float32 [B, O]; features: what the last matrix reads, float32 [B, D].
        """
        c, keys = self.config, keys_of(batch)
        x_BxLxD = dropped(self.places(batch["image"]), keys, c.dropout, OUTSIDE)
        features_BxD = self.read(self.encoded(x_BxLxD, keys))
        with jax.named_scope("head"):
            head = Linear(resolved(c.classes), ("embed", "outputs"), "float32", name="head")
            return {"out": head(features_BxD), "features": features_BxD}

    def places(self, image_BxYxXxC: Array) -> Array:
        """[B, L, D]: the class's own place, if it has one, and the patches, with positions."""
        c, dtype, init = self.config, jnp.dtype(self.config.dtype), truncated_normal(OWN)
        patches = Patches(from_data.patch_sides(c), c.width, dtype, name="patches")
        x_BxLxD = patches(image_BxYxXxC)
        if c.pool == "class":
            own_D = parameter(self, "class_token", init, (c.width,), ("embed",)).astype(dtype)
            own_Bx1xD = jnp.broadcast_to(own_D[None, None], (x_BxLxD.shape[0], 1, c.width))
            x_BxLxD = jnp.concatenate([own_Bx1xD, x_BxLxD], axis=1)
        if c.positions == "learned":
            shape, axes = x_BxLxD.shape[1:], ("positions", "embed")
            x_BxLxD += parameter(self, "positions", init, shape, axes).astype(dtype)[None]
        return constrain(x_BxLxD)

    def encoded(self, x_BxLxD: Array, keys: Keys | None) -> Array:
        """The blocks and the norm behind them; float32 [B, L, D]."""
        c, blocks = self.config, encoder(self.config)
        x_BxLxD = stacked(self, blocks, x_BxLxD, keys)
        return NORMS[blocks.norm](c.norm_eps, "float32", name="final_norm")(x_BxLxD)

    def read(self, x_BxLxD: Array) -> Array:
        """Features [B, D]: the class's place, or the mean over the patches."""
        return x_BxLxD[:, 0] if self.config.pool == "class" else x_BxLxD.mean(axis=1)


def stacked(module: nn.Module, blocks: EncoderConfig, x_BxLxD: Array, keys: Keys | None) -> Array:
    """All blocks, whose parameters `module`, inside its compact method, owns as "blocks"."""
    context = {"segment_ids": None, "dropout": keys}
    if module.is_initializing():
        return init_blocks(blocks)(x_BxLxD, context, None)[0]
    params = module.variables["params"]["blocks"]
    return run_blocks(blocks, params, x_BxLxD, context, None)[0]
