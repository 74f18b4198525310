"""The transformer: pre-norm blocks, rotary positions, grouped-query attention.

Takes a resolved TransformerConfig and a batch (tokens, positions, segment_ids: int32 [B, L]) and
gives the hidden states and the output matrix that make the logits; with a cache (`init_cache`) it
also gives the cache with the new keys and values in it, for
`scaling/families/transformer/generate.py`. Objectives call it; it calls `blocks.py`.
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.config.amounts import resolved
from scaling.errors import ConfigError
from scaling.families.transformer.fields import TransformerConfig
from scaling.families.transformer.rope import multipliers
from scaling.models.blocks import init_blocks, run_blocks
from scaling.models.dropout import OUTSIDE, dropped, keys_of
from scaling.models.embedding import lookup
from scaling.models.layers import (
    NORMS,
    Array,
    constrain,
    parameter,
    rope_table,
    truncated_normal,
)

Params = Any  # nested dict of arrays


class Transformer(nn.Module):
    """Decoder: tokens to what next-token logits are made of."""

    config: TransformerConfig

    @nn.compact
    def __call__(
        self, batch: Mapping[str, Array], cache: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """
        Args:
          batch: tokens, positions (within the document), segment_ids (document number in the row;
            left out: a row is one document), each int32 [B, L].
          cache: from `init_cache` or from the call before; the batch continues it.

        Returns:
          hidden: behind the final norm, [B, L, D] in the compute dtype; head: output matrix,
          float32 [V, D]; softcap: of the logits, if there is one (the logits themselves are made
          where they are needed: `objectives/next_token/cross_entropy.py`); penalties: what the
          blocks add to the loss, float32 [B] by name, if they do; cache: the cache with L more
          slots, if one was given.
        """
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        vocab = resolved(c.vocab)
        # 1 / sqrt(width): the tied head, fed with a normed vector, starts with logits of about 1.
        # Measured on bytes at width 64: half or twice of it, a constant 0.02 (GPT-2), and an input
        # multiplied by sqrt(width) all train slower.
        init = truncated_normal(1 / math.sqrt(c.width))
        table_VxD = parameter(self, "embedding", init, (vocab, c.width), ("vocab", "embed"))
        with jax.named_scope("embedding"):
            x_BxLxD = lookup(table_VxD, batch["tokens"], dtype)
            if c.positions == "learned":
                shape, axes = (self._places(batch, cache), c.width), ("positions", "embed")
                places_PxD = parameter(self, "positions", init, shape, axes)
                x_BxLxD += lookup(places_PxD, batch["positions"], dtype)
            x_BxLxD = constrain(x_BxLxD)
            x_BxLxD = dropped(x_BxLxD, keys_of(batch), c.dropout, OUTSIDE)

        context = {
            "rope": self._rope(batch, cache) if c.positions == "rope" else None,
            "segment_ids": batch.get("segment_ids"),
            "dropout": keys_of(batch),
            "key_segments": batch.get("segment_ids"),
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

        x_BxLxD = NORMS[c.norm](c.norm_eps, dtype, name="final_norm")(x_BxLxD)
        head_VxD = table_VxD
        if not c.tie_embeddings:
            head_VxD = parameter(self, "head", init, (vocab, c.width), ("vocab", "embed"))
        outputs: dict[str, Any] = {"hidden": constrain(x_BxLxD), "head": head_VxD}
        if c.logit_softcap is not None:
            outputs["softcap"] = c.logit_softcap
        if penalties:
            outputs["penalties"] = penalties
        if cache is not None:
            outputs["cache"] = {
                "layers": layers,
                "segment_ids": context["key_segments"],
                "length": cache["length"] + batch["tokens"].shape[1],
            }
        return outputs

    def _places(self, batch: Mapping[str, Array], cache: Mapping[str, Any] | None) -> int:
        """Rows of the table of positions. Raises ConfigError where they are fewer than a row has:
        a lookup beyond the last would give the last.
        """
        places, row = resolved(self.config.places), _row(batch, cache)
        if row > places:
            raise ConfigError(
                f"model.places={places} is less than the {row} tokens of a row; give more, or "
                "shorter rows"
            )
        return places

    def _rope(self, batch: Mapping[str, Array], cache: Mapping[str, Any] | None) -> Any:
        """The rotary table; of rows longer than `rope_length` at positions scaled down to it."""
        c, positions_BxL = self.config, batch["positions"]
        row = _row(batch, cache)
        if c.rope_length is not None and row > c.rope_length:
            positions_BxL = positions_BxL.astype(jnp.float32) * (c.rope_length / row)
        head_dim = resolved(c.head_dim)
        by = multipliers(c.rope_scaling, head_dim, c.rope_theta)
        return rope_table(positions_BxL, head_dim, c.rope_theta, by)


def _row(batch: Mapping[str, Array], cache: Mapping[str, Any] | None) -> int:
    """Tokens of a row: of a whole one, or that the cache has room for."""
    return (batch["tokens"] if cache is None else cache["segment_ids"]).shape[1]


def init_cache(config: TransformerConfig, batch_size: int, slots: int) -> dict[str, Any]:
    """An empty cache of keys and values for `slots` tokens of `batch_size` sequences."""
    shape = (config.depth, batch_size, config.kv_heads, slots, config.head_dim)
    return {
        "layers": {name: jnp.zeros(shape, jnp.dtype(config.dtype)) for name in ("key", "value")},
        "segment_ids": jnp.zeros((batch_size, slots), jnp.int32),
        "length": jnp.zeros((), jnp.int32),
    }
