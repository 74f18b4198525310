"""The feed-forward language model: tokens to what next-token logits are made of.

Takes a resolved FeedforwardConfig and a batch of tokens; gives the hidden states and the output
matrix, as the transformer does. A place knows the last `context` tokens of its document, itself
included, and no others.
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.config.amounts import resolved
from scaling.families.feedforward import FeedforwardConfig
from scaling.models.dropout import OUTSIDE, Keys, dropped, keys_of
from scaling.models.embedding import lookup
from scaling.models.layers import (
    MLP,
    Array,
    Projection,
    RMSNorm,
    constrain,
    parameter,
    truncated_normal,
)
from scaling.models.stack import run_stack


class Block(nn.Module):
    """x + mlp(norm(x)), each place by itself. The output matrix starts smaller by 1 / sqrt(depth),
    so that the stream's variance does not grow with the depth.
    """

    config: FeedforwardConfig

    @nn.compact
    def __call__(self, x_BxLxD: Array, dropout: Keys | None = None) -> Array:
        c, out_scale = self.config, 1 / math.sqrt(self.config.depth)
        h_BxLxD = RMSNorm(c.norm_eps, c.dtype, name="norm")(x_BxLxD)
        mlp = MLP(resolved(c.mlp_width), False, c.dtype, out_scale, name="mlp")
        return constrain(x_BxLxD + dropped(mlp(h_BxLxD), dropout, c.dropout, 0))


class Network(nn.Module):
    """One matrix over the embeddings of the last tokens side by side (Bengio et al. 2003, A neural
    probabilistic language model, section 2), blocks, a norm, a head.
    """

    config: FeedforwardConfig

    @nn.compact
    def __call__(self, batch: Mapping[str, Array]) -> dict[str, Any]:
        """
        Args:
          batch: tokens and segment_ids (document number in the row; left out: a row is one
            document), each int32 [B, L].

        Returns:
          hidden: behind the final norm, [B, L, D] in the compute dtype; head: output matrix,
          float32 [V, D].
        """
        c, shape = self.config, (resolved(self.config.vocab), self.config.width)
        # As the transformer's: the tied head starts with logits of about 1.
        init = truncated_normal(1 / math.sqrt(c.width))
        table_VxD = parameter(self, "embedding", init, shape, ("vocab", "embed"))
        with jax.named_scope("embedding"):
            e_BxLxE = lookup(table_VxD, batch["tokens"], jnp.dtype(c.dtype))
            # Embeddings start at 1 / sqrt(width): what the first matrix reads is of order 1.
            e_BxLxE = dropped(e_BxLxE * math.sqrt(c.width), keys_of(batch), c.dropout, OUTSIDE)
        last_BxLxKxE = _last(e_BxLxE, batch.get("segment_ids"), c.context)
        x_BxLxD = Projection(
            "BLKE,KED->BLD",
            (c.context, c.width, c.width),
            ("positions", "embed", "mlp"),
            c.dtype,
            name="first",
        )(last_BxLxKxE)
        x_BxLxD = run_stack(
            self,
            "blocks",
            c.depth,
            Block,
            (c,),
            constrain(x_BxLxD),
            scan_layers=c.scan_layers,
            remat=c.remat,
            dropout=keys_of(batch),
        )
        hidden_BxLxD = RMSNorm(c.norm_eps, c.dtype, name="final_norm")(x_BxLxD)
        head_VxD = table_VxD
        if not c.tie_embeddings:
            head_VxD = parameter(self, "head", init, shape, ("vocab", "embed"))
        return {"hidden": hidden_BxLxD, "head": head_VxD}


def _last(x_BxLxE: Array, segments_BxL: Array | None, count: int) -> Array:
    """[B, L, count, E]: what stands at a place and at the `count` - 1 before it, the place itself
    first; zeros before the start of its document.
    """
    length, found = x_BxLxE.shape[1], []
    if segments_BxL is None:
        segments_BxL = jnp.ones(x_BxLxE.shape[:2], jnp.int32)
    for back in range(count):
        before = ((0, 0), (min(back, length), 0))
        moved_BxL = jnp.pad(segments_BxL, before)[:, :length]
        moved_BxLxE = jnp.pad(x_BxLxE, (*before, (0, 0)))[:, :length]
        same_BxL = moved_BxL == segments_BxL
        found.append(jnp.where(same_BxL[..., None], moved_BxLxE, 0))
    return jnp.stack(found, axis=2)
