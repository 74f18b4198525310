"""The transformer: pre-norm blocks, rotary positions, grouped-query attention.

Takes a resolved TransformerConfig and a batch (tokens, positions, segment_ids: int32 [B, L]) and
gives {"logits": float32 [B, L, V]}; with a cache (`init_cache`) it also gives the cache with the
new keys and values in it, for `scaling/generate.py`. Objectives call it; it calls `blocks.py`.
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.config import TransformerConfig
from scaling.ladder import resolved
from scaling.models.blocks import init_blocks, run_blocks
from scaling.models.layers import (
    Array,
    Projection,
    RMSNorm,
    constrain,
    parameter,
    rope_table,
    truncated_normal,
)

Params = Any  # nested dict of arrays


class Transformer(nn.Module):
    """Decoder: tokens to next-token logits."""

    config: TransformerConfig

    @nn.compact
    def __call__(
        self, batch: Mapping[str, Array], cache: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """
        Args:
          batch: tokens, positions (within the document), segment_ids (document number in the
            window), each int32 [B, L].
          cache: from `init_cache` or from the call before; the batch continues it.

        Returns:
          logits: float32 [B, L, V]; penalties: what the blocks add to the loss, float32 [B] by
          name, if they do; cache: the cache with L more slots, if one was given.
        """
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        vocab, head_dim = resolved(c.vocab), resolved(c.head_dim)
        # 1 / sqrt(width): the tied head, fed with a normed vector, starts with logits of about 1.
        # Measured on bytes at width 64: half or twice of it, a constant 0.02 (GPT-2), and an input
        # multiplied by sqrt(width) all train slower.
        init = truncated_normal(1 / math.sqrt(c.width))
        table_VxD = parameter(self, "embedding", init, (vocab, c.width), ("vocab", "embed"))
        # Gathered over fsdp before the lookup: the partitioner has no good plan for looking rows up
        # in a table that is cut along the width.
        whole_VxD = nn.with_logical_constraint(table_VxD, ("act_vocab", "act_embed"))
        x_BxLxD = constrain(jnp.take(whole_VxD, batch["tokens"], axis=0).astype(dtype))

        context = {
            "rope": rope_table(batch["positions"], head_dim, c.rope_theta),
            "segment_ids": batch["segment_ids"],
            "key_segments": batch["segment_ids"],
            "start": None if cache is None else cache["length"],
        }
        if cache is not None:
            context["key_segments"] = jax.lax.dynamic_update_slice_in_dim(
                cache["segment_ids"], batch["segment_ids"], cache["length"], axis=1
            )
        layers = None if cache is None else cache["layers"]
        if self.is_initializing():
            x_BxLxD, _ = init_blocks(c)(x_BxLxD, context, None)
            penalties: dict[str, Array] = {}
        else:
            blocks = self.variables["params"]["blocks"]
            x_BxLxD, layers, penalties = run_blocks(c, blocks, x_BxLxD, context, layers)

        x_BxLxD = RMSNorm(c.norm_eps, dtype, name="final_norm")(x_BxLxD)
        if c.tie_embeddings:
            logits_BxLxV = jnp.einsum(
                "BLD,VD->BLV", x_BxLxD, table_VxD.astype(dtype), preferred_element_type=jnp.float32
            )
        else:
            shape, axes = (c.width, vocab), ("embed", "vocab")
            head = Projection("BLD,DV->BLV", shape, axes, dtype, name="head")
            logits_BxLxV = head(x_BxLxD, accumulate=jnp.float32)
        if c.logit_softcap is not None:
            logits_BxLxV = c.logit_softcap * jnp.tanh(logits_BxLxV / c.logit_softcap)
        outputs = {
            "logits": nn.with_logical_constraint(logits_BxLxV, ("batch", "seq", "act_vocab"))
        }
        if penalties:
            outputs["penalties"] = penalties
        if cache is not None:
            outputs["cache"] = {
                "layers": layers,
                "segment_ids": context["key_segments"],
                "length": cache["length"] + batch["tokens"].shape[1],
            }
        return outputs


def init_cache(config: TransformerConfig, batch_size: int, slots: int) -> dict[str, Any]:
    """An empty cache of keys and values for `slots` tokens of `batch_size` sequences."""
    shape = (config.depth, batch_size, config.kv_heads, slots, config.head_dim)
    return {
        "layers": {name: jnp.zeros(shape, jnp.dtype(config.dtype)) for name in ("key", "value")},
        "segment_ids": jnp.zeros((batch_size, slots), jnp.int32),
        "length": jnp.zeros((), jnp.int32),
    }
