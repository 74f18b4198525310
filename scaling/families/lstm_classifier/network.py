"""The LSTM that reads an image from left to right, one column after the other: images to logits.

Takes a resolved LSTMClassifierConfig and a batch of images; of a signal, an image one row high, a
column is one place. The layers are those of the language model (`scaling/models/recurrence.py`).
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.config.amounts import resolved
from scaling.families.lstm_classifier import LSTMClassifierConfig
from scaling.models.dropout import keys_of
from scaling.models.layers import Array, Linear, Projection, RMSNorm
from scaling.models.recurrence import ResidualLSTM
from scaling.models.stack import run_stack


class Network(nn.Module):
    """A matrix, recurrent layers, a norm, one matrix."""

    config: LSTMClassifierConfig

    @nn.compact
    def __call__(self, batch: Mapping[str, Array]) -> dict[str, Any]:
        """
        Args:
          batch: image, float32 [B, Y, X, C].

        Returns:
          out: float32 [B, O]; features: what the last matrix reads, float32 [B, D].
        """
        c, x_BxYxXxC = self.config, batch["image"]
        # Time first: what the loop takes lies together.
        rows, _, length, _ = x_BxYxXxC.shape
        x_LxBxP = x_BxYxXxC.transpose(2, 0, 1, 3).reshape(length, rows, -1)
        shape, axes = (x_LxBxP.shape[-1], c.width), ("inputs", "embed")
        into = Projection("LBP,PD->LBD", shape, axes, c.dtype, bias=True, name="into")
        x_LxBxD = nn.with_logical_constraint(into(x_LxBxP), (None, "batch", "act_embed"))
        x_LxBxD = run_stack(
            self,
            "layers",
            c.depth,
            ResidualLSTM,
            (c,),
            x_LxBxD,
            jnp.ones(x_LxBxD.shape[:2], bool),
            scan_layers=c.scan_layers,
            remat=c.remat,
            dropout=keys_of(batch),
        )
        x_LxBxD = RMSNorm(c.norm_eps, "float32", name="final_norm")(x_LxBxD)
        features_BxD = x_LxBxD[-1] if c.pool == "last" else x_LxBxD.mean(axis=0)
        with jax.named_scope("head"):
            head = Linear(resolved(c.classes), ("embed", "outputs"), "float32", name="head")
            return {"out": head(features_BxD), "features": features_BxD}
