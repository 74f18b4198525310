"""The transformer: pre-norm blocks, rotary positions, grouped-query attention.

Takes a resolved TransformerConfig and a batch (tokens, positions, segment_ids: int32 [B, L]) and
gives {"logits": float32 [B, L, V]}; with a cache (`init_cache`) it also gives the cache with the
new keys and values in it, for `scaling/generate.py`. Objectives call it; it calls `layers.py`.
Parameters of the scanned and the unrolled form turn into each other by `stack` and `unstack`.
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.config import TransformerConfig
from scaling.ladder import resolved
from scaling.models.layers import (
    MLP,
    Array,
    Projection,
    RMSNorm,
    attention,
    parameter,
    rope_table,
    rotate,
    truncated_normal,
)

Params = Any  # nested dict of arrays

# What the backward pass keeps, by name; the rest is computed again (jax.checkpoint).
_REMAT = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


class Attention(nn.Module):
    """Self-attention with rotary positions; with a cache, over the slots written so far."""

    config: TransformerConfig
    out_scale: float

    @nn.compact
    def __call__(
        self, x_BxLxD: Array, context: Mapping[str, Any], cache: Mapping[str, Array] | None
    ) -> tuple[Array, Any]:
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        kv_heads, head_dim = resolved(c.kv_heads), resolved(c.head_dim)

        def into(name: str, heads: int, axis: str) -> Array:
            shape, axes = (c.width, heads, head_dim), ("embed", axis, "head_dim")
            y = Projection("BLD,DHK->BHLK", shape, axes, dtype, name=name)(x_BxLxD)
            if c.qk_norm and name != "value":
                y = RMSNorm(c.norm_eps, dtype, name=f"{name}_norm")(y)
            if name != "value":
                y = rotate(y, context["rope"])
            return nn.with_logical_constraint(y, ("batch", f"act_{axis}", "seq", None))

        q_BxHxLxK = into("query", c.heads, "heads")
        k_BxGxSxK = into("key", kv_heads, "kv_heads")
        v_BxGxSxK = into("value", kv_heads, "kv_heads")
        start, segments = context["start"], context["segment_ids"]
        if cache is not None:
            put = jax.lax.dynamic_update_slice_in_dim
            k_BxGxSxK = put(cache["key"], k_BxGxSxK.astype(cache["key"].dtype), start, axis=2)
            v_BxGxSxK = put(cache["value"], v_BxGxSxK.astype(cache["value"].dtype), start, axis=2)
            cache = {"key": k_BxGxSxK, "value": v_BxGxSxK}
        out_BxHxLxK = attention(
            q_BxHxLxK, k_BxGxSxK, v_BxGxSxK, segments, context["key_segments"], start
        )
        shape, axes = (c.heads, head_dim, c.width), ("heads", "head_dim", "embed")
        out = Projection("BHLK,HKD->BLD", shape, axes, dtype, self.out_scale, name="out")
        return out(out_BxHxLxK), cache


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    The two output projections start smaller by 1 / sqrt(2 depth), so that the sum of all blocks'
    outputs has the same variance at every depth (Radford et al. 2019, GPT-2, section 2.3).
    """

    config: TransformerConfig

    @nn.compact
    def __call__(
        self, x_BxLxD: Array, context: Mapping[str, Any], cache: Mapping[str, Array] | None
    ) -> tuple[Array, Any]:
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        mlp_width = resolved(c.mlp_width)
        out_scale = 1 / math.sqrt(2 * c.depth)
        h_BxLxD = RMSNorm(c.norm_eps, dtype, name="attention_norm")(x_BxLxD)
        y_BxLxD, cache = Attention(c, out_scale, name="attention")(h_BxLxD, context, cache)
        x_BxLxD = constrain(x_BxLxD + y_BxLxD)
        h_BxLxD = RMSNorm(c.norm_eps, dtype, name="mlp_norm")(x_BxLxD)
        y_BxLxD = MLP(mlp_width, c.mlp == "gated", dtype, out_scale, name="mlp")(h_BxLxD)
        return constrain(x_BxLxD + y_BxLxD), cache


def constrain(x_BxLxD: Array) -> Array:
    """Names the axes of the residual stream for the partitioner."""
    return nn.with_logical_constraint(x_BxLxD, ("batch", "seq", "act_embed"))


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
          logits: float32 [B, L, V]; cache: the cache with L more slots, if one was given.
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
        x_BxLxD, layers = self._blocks(x_BxLxD, context, layers)

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
        if cache is not None:
            outputs["cache"] = {
                "layers": layers,
                "segment_ids": context["key_segments"],
                "length": cache["length"] + batch["tokens"].shape[1],
            }
        return outputs

    def _blocks(self, x_BxLxD: Array, context: dict[str, Any], layers: Any) -> tuple[Array, Any]:
        """All blocks, scanned or one by one; `layers`: their caches, stacked, or None."""
        c = self.config
        block: Any = Block
        if c.remat != "none":
            # Inside a scan the loop already keeps the compiler from undoing the remat.
            block = nn.remat(Block, policy=_REMAT[c.remat], prevent_cse=not c.scan_layers)
        if c.scan_layers:
            scanned = nn.scan(
                block,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                in_axes=(nn.broadcast, 0),
                length=c.depth,
                metadata_params={nn.PARTITION_NAME: "layers"},
            )
            return scanned(c, name="blocks")(x_BxLxD, context, layers)
        written = []
        for i in range(c.depth):
            layer = jax.tree.map(lambda leaf, i=i: leaf[i], layers)
            x_BxLxD, layer = block(c, name=f"block_{i}")(x_BxLxD, context, layer)
            written.append(layer)
        return x_BxLxD, jax.tree.map(lambda *leaves: jnp.stack(leaves), *written)


def init_cache(config: TransformerConfig, batch_size: int, slots: int) -> dict[str, Any]:
    """An empty cache of keys and values for `slots` tokens of `batch_size` sequences."""
    shape = (config.depth, batch_size, config.kv_heads, slots, config.head_dim)
    return {
        "layers": {name: jnp.zeros(shape, jnp.dtype(config.dtype)) for name in ("key", "value")},
        "segment_ids": jnp.zeros((batch_size, slots), jnp.int32),
        "length": jnp.zeros((), jnp.int32),
    }


def stack(params: Params) -> Params:
    """Parameters of the unrolled form (block_0, block_1, ...) as those of the scanned form."""
    depth = sum(name.startswith("block_") for name in params)
    blocks = [params[f"block_{i}"] for i in range(depth)]
    rest = {name: leaf for name, leaf in params.items() if not name.startswith("block_")}
    return rest | {"blocks": jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)}


def unstack(params: Params) -> Params:
    """Inverse of `stack`."""
    rest = {name: leaf for name, leaf in params.items() if name != "blocks"}
    depth = jax.tree.leaves(params["blocks"])[0].shape[0]
    blocks = {
        f"block_{i}": jax.tree.map(lambda leaf, i=i: leaf[i], params["blocks"])
        for i in range(depth)
    }
    return rest | blocks
