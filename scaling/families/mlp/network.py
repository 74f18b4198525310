"""The multilayer perceptron: vectors or images to logits or predictions."""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.config.amounts import resolved
from scaling.families.mlp import MLPConfig
from scaling.models.dropout import Keys, dropped, keys_of
from scaling.models.layers import NORMS, Array, Linear
from scaling.models.stack import run_stack

# The activation, and what its matrix's initial std is multiplied by so that layer after layer keeps
# the variance: a ReLU halves it (He et al. 2015, section 2.2), and its smooth forms nearly so.
ACTIVATIONS = {
    "relu": (nn.relu, math.sqrt(2)),
    "gelu": (nn.gelu, math.sqrt(2)),
    "silu": (nn.silu, math.sqrt(2)),
    "tanh": (jnp.tanh, 1.0),
}


class Hidden(nn.Module):
    """activation(norm(x W + b)), plus x if that is asked for."""

    config: MLPConfig
    axes: tuple[str, str] = ("embed", "mlp")  # logical axes of the matrix
    residual: bool = False

    @nn.compact
    def __call__(self, x_BxI: Array, dropout: Keys | None = None) -> Array:
        c = self.config
        activation, gain = ACTIVATIONS[c.activation]
        h_BxD = Linear(c.width, self.axes, c.dtype, gain, name="linear")(x_BxI)
        if c.norm != "none":
            h_BxD = NORMS[c.norm](c.norm_eps, c.dtype, name="norm")(h_BxD)
        h_BxD = dropped(activation(h_BxD), dropout, c.dropout, 0)
        h_BxD = x_BxI + h_BxD if self.residual else h_BxD
        return nn.with_logical_constraint(h_BxD, ("batch", "act_embed"))


class Network(nn.Module):
    """Hidden layers, then one matrix."""

    config: MLPConfig

    @nn.compact
    def __call__(self, batch: Mapping[str, Array]) -> dict[str, Any]:
        """
        Args:
          batch: features, float32 [B, I], or else image, float32 [B, Y, X, C].

        Returns:
          out: float32 [B, O]; features: what the last matrix reads, [B, D] in the compute dtype.
        """
        c = self.config
        x = batch["features"] if "features" in batch else batch["image"]
        x_BxI = x.reshape(x.shape[0], resolved(c.inputs)).astype(c.dtype)
        first = Hidden
        if c.remat != "none" and not self.is_initializing():
            first = nn.remat(Hidden)
        dropout = keys_of(batch)
        given = () if dropout is None else (dropout.of_layer(0),)
        h_BxD = first(c, ("inputs", "mlp"), name="first")(x_BxI, *given)
        fields = (c, ("embed", "mlp"), c.residual)
        h_BxD = run_stack(
            self,
            "hidden",
            c.depth - 1,
            Hidden,
            fields,
            h_BxD,
            scan_layers=c.scan_layers,
            remat=c.remat,
            dropout=dropout,
            first=1,
        )
        with jax.named_scope("head"):
            out_BxO = Linear(resolved(c.outputs), ("embed", "outputs"), c.dtype, name="head")(h_BxD)
        return {"out": out_BxO.astype(jnp.float32), "features": h_BxD}
