"""The convolutional network: images to logits.

Takes a resolved ConvNetConfig and a batch of images; its blocks are in `blocks.py`.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.config.amounts import resolved
from scaling.families.convnet import ConvNetConfig, table
from scaling.families.convnet.blocks import ACTIVATIONS, BLOCKS, norm, pooled
from scaling.models.convolution import RELU_GAIN
from scaling.models.dropout import OUTSIDE, dropped, keys_of
from scaling.models.layers import Array, Linear


class Network(nn.Module):
    """The rows of the table, and a head: the mean over all places and one matrix, or hidden layers
    that read all places. Of dense blocks a norm and an activation stand before it, of convnext a
    norm behind the mean.
    """

    config: ConvNetConfig

    @nn.compact
    def __call__(self, batch: Mapping[str, Array]) -> dict[str, Any]:
        """
        Args:
          batch: image, float32 [B, Y, X, C].

        Returns:
          out: float32 [B, O]; features: what the head reads, float32 [B, F].
        """
        c, rows, x = self.config, table.rows(self.config), batch["image"]
        total = sum(row.repeats for row in rows if row.block != "pool")
        dropout, number = keys_of(batch), 0
        for i, row in enumerate(rows):
            if row.block == "pool":
                x = pooled(c, x, row.kernel, row.stride)
                continue
            kind = BLOCKS[row.block]
            kind = nn.remat(kind) if c.remat != "none" and not self.is_initializing() else kind
            for j in range(row.repeats):
                given = () if dropout is None else (dropout.of_layer(number),)
                x = kind(c, row, j, total, i == 0, name=f"row{i}_block{j}")(x, *given)
                number += 1
        if c.block == "dense":
            x = ACTIVATIONS[c.activation](norm(c, x, "final_norm"))
        if c.hidden is None:
            features_BxF = x.astype(jnp.float32).mean(axis=(1, 2))
            if c.block == "convnext":
                features_BxF = norm(c, features_BxF, "final_norm").astype(jnp.float32)
        else:
            features_BxF = self._hidden(x.reshape(len(x), -1))
        with jax.named_scope("head"):
            read_BxF, axis = dropped(features_BxF, dropout, c.dropout, OUTSIDE), "embed"
            if c.head_width is not None:
                axes, axis = ("embed", "mlp"), "mlp"
                wide = Linear(c.head_width, axes, "float32", RELU_GAIN, name="head_hidden")
                read_BxF = nn.relu(wide(read_BxF))
            head = Linear(resolved(c.classes), (axis, "outputs"), "float32", name="head")
            return {"out": head(read_BxF), "features": features_BxF}

    def _hidden(self, x_BxF: Array) -> Array:
        hidden, dtype = resolved(self.config.hidden), self.config.dtype
        for name, axes in (("hidden0", ("embed", "mlp")), ("hidden1", ("mlp", "embed"))):
            x_BxF = nn.relu(Linear(hidden, axes, dtype, RELU_GAIN, name=name)(x_BxF))
        return x_BxF.astype(jnp.float32)
