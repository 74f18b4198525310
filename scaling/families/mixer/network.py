"""The MLP-Mixer: images to logits.

Takes a resolved MixerConfig and a batch of images; its MLPs, norms and patches are those of the
transformers (`scaling/models`).
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.config.amounts import resolved
from scaling.families import from_data
from scaling.families.mixer import MixerConfig
from scaling.models.dropout import OUTSIDE, Keys, dropped, keys_of, skipped
from scaling.models.layers import MLP, Array, LayerNorm, Linear, constrain
from scaling.models.patches import Patches
from scaling.models.stack import run_stack


class Block(nn.Module):
    """x + mlp(norm(x)) across the patches, each channel by itself, then across the channels, each
    patch by itself (Tolstikhin et al. 2021, arXiv 2105.01601, equation 1).

    Both output matrices start smaller by 1 / sqrt(2 depth), as the transformer's.
    """

    config: MixerConfig

    @nn.compact
    def __call__(self, x_BxLxD: Array, dropout: Keys | None = None) -> Array:
        c, out_scale = self.config, 1 / math.sqrt(2 * self.config.depth)

        def mlp(width: int | None, axis: str, name: str) -> MLP:
            return MLP(resolved(width), False, c.dtype, out_scale, bias=True, axis=axis, name=name)

        def left(y_BxLxD: Array, site: int) -> Array:
            y_BxLxD = dropped(y_BxLxD, dropout, c.dropout, site)
            return skipped(y_BxLxD, dropout, c.drop_path, c.depth, site + 1)

        h_BxLxD = LayerNorm(c.norm_eps, c.dtype, name="token_norm")(x_BxLxD)
        y_BxDxL = mlp(c.token_width, "positions", "tokens")(h_BxLxD.swapaxes(1, 2))
        x_BxLxD = constrain(x_BxLxD + left(y_BxDxL.swapaxes(1, 2), 0))
        h_BxLxD = LayerNorm(c.norm_eps, c.dtype, name="channel_norm")(x_BxLxD)
        return constrain(x_BxLxD + left(mlp(c.mlp_width, "embed", "channels")(h_BxLxD), 2))


class Network(nn.Module):
    """Patches, blocks, a norm, the mean over all patches, one matrix."""

    config: MixerConfig

    @nn.compact
    def __call__(self, batch: Mapping[str, Array]) -> dict[str, Any]:
        """
        Args:
          batch: image, float32 [B, Y, X, C].

        Returns:
          out: float32 [B, O]; features: what the last matrix reads, float32 [B, D].
        """
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        patches = Patches(from_data.patch_sides(c), c.width, dtype, name="patches")
        x_BxLxD = run_stack(
            self,
            "blocks",
            c.depth,
            Block,
            (c,),
            dropped(patches(batch["image"]), keys_of(batch), c.dropout, OUTSIDE),
            scan_layers=c.scan_layers,
            remat=c.remat,
            dropout=keys_of(batch),
        )
        x_BxLxD = LayerNorm(c.norm_eps, "float32", name="final_norm")(x_BxLxD)
        features_BxD = x_BxLxD.mean(axis=1)
        with jax.named_scope("head"):
            head = Linear(resolved(c.classes), ("embed", "outputs"), "float32", name="head")
            return {"out": head(features_BxD), "features": features_BxD}
