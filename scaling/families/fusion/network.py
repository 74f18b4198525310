"""An image and a text, brought together, to logits."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.config.amounts import resolved
from scaling.families import from_data
from scaling.families.fusion import FusionConfig
from scaling.models.layers import MLP, Array, Linear, RMSNorm
from scaling.models.reading_blocks import CrossBlock
from scaling.models.towers import ImageTower, TextTower, is_text, mean_over


class Network(nn.Module):
    """Two readers, a fusion, a hidden layer, one matrix."""

    config: FusionConfig

    @nn.compact
    def __call__(self, batch: Mapping[str, Array]) -> dict[str, Any]:
        """
        Args:
          batch: image float32 [B, Y, X, C]; text, text_segments int32 [B, T].

        Returns:
          out: float32 [B, O]; features: what the last matrix reads, float32 [B, D].
        """
        c, there_BxT = self.config, is_text(batch)
        images_BxLxD = ImageTower(c, from_data.patch_sides(c), name="image")(batch["image"])
        texts_BxTxD = TextTower(c, name="text")(batch["text"], there_BxT)
        with jax.named_scope("fusion"):
            joined_BxN = self._joined(images_BxLxD, texts_BxTxD, there_BxT)
        # The same network behind every fusion, so that these alone are compared.
        hidden_BxD = Linear(c.width, ("mlp", "embed"), c.dtype, name="into")(joined_BxN)
        width = resolved(c.mlp_width)
        mlp = MLP(width, c.mlp == "gated", jnp.dtype(c.dtype), name="mlp")
        hidden_BxD += mlp(hidden_BxD[:, None])[:, 0]
        features_BxD = RMSNorm(c.norm_eps, "float32", name="final_norm")(hidden_BxD)
        head = Linear(resolved(c.classes), ("embed", "outputs"), "float32", name="head")
        return {"out": head(features_BxD), "features": features_BxD}

    def _joined(self, images_BxLxD: Array, texts_BxTxD: Array, there_BxT: Array) -> Array:
        """Both as one, float32 [B, N]."""
        c = self.config
        if c.fusion == "cross":
            seen_BxTxL = jnp.ones((*texts_BxTxD.shape[:2], images_BxLxD.shape[1]), bool)
            read_BxTxD = CrossBlock(c, 2, name="cross")(texts_BxTxD, images_BxLxD, seen_BxTxL)
            return mean_over(read_BxTxD, there_BxT)
        image_BxD, text_BxD = mean_over(images_BxLxD), mean_over(texts_BxTxD, there_BxT)
        both_BxN = jnp.concatenate([image_BxD, text_BxD], axis=-1)
        if c.fusion == "concatenation":
            return both_BxN
        if c.fusion == "average":
            return (image_BxD + text_BxD) / 2
        # Gated multimodal units (Arevalo et al. 2017, arXiv 1702.01992, section 3.1).
        gate = Linear(c.width, ("mlp", "embed"), "float32", name="gate")
        gate_BxD = nn.sigmoid(gate(both_BxN))
        return gate_BxD * jnp.tanh(image_BxD) + (1 - gate_BxD) * jnp.tanh(text_BxD)
