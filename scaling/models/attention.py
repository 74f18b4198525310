"""Self-attention of a block, and the attention function under it.

Takes queries, keys and values by head with the document number of every position; called by
`blocks.py`. Shapes as in `layers.py`.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.config import TransformerConfig
from scaling.ladder import resolved
from scaling.models.layers import Array, Projection, RMSNorm, rotate


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
            y = Projection("BLD,DHK->BLHK", shape, axes, dtype, 1.0, c.matmul, name=name)(x_BxLxD)
            y = jnp.swapaxes(y, 1, 2)
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
        out = Projection("BLHK,HKD->BLD", shape, axes, dtype, self.out_scale, c.matmul, name="out")
        return out(jnp.swapaxes(out_BxHxLxK, 1, 2)), cache


def attention(
    q_BxHxLxK: Array,
    k_BxGxSxK: Array,
    v_BxGxSxK: Array,
    q_segments_BxL: Array,
    k_segments_BxS: Array,
    start: Array | None = None,
    blocks: int | None = None,
) -> Array:
    """Causal softmax attention inside segments, [B, H, L, K] (Vaswani et al. 2017, section 3.2.1).

    A query sees the key slots up to its own that have its segment number. Scores and softmax are
    float32; the output has the dtype of `v`.

    With `start` given (decoding), query i stands at slot `start + i` of the S slots. Without it
    (training) the L queries stand at the L slots, and are cut into `blocks` static blocks, each of
    which meets only the keys up to its end: with n blocks (n + 1) / 2n of the full matrix.
    """
    length, channels = q_BxHxLxK.shape[2:]
    # The barrier has queries, keys and values computed once: without it the CPU compiler computes
    # norm and rotation again for every block of queries (a whole step takes 1.2 times as long).
    q_BxHxLxK, k_BxGxSxK, v_BxGxSxK = jax.lax.optimization_barrier(
        (q_BxHxLxK * channels**-0.5, k_BxGxSxK, v_BxGxSxK)
    )
    if start is not None:
        return _attend(q_BxHxLxK, k_BxGxSxK, v_BxGxSxK, q_segments_BxL, k_segments_BxS, start)
    blocks = query_blocks(length) if blocks is None else blocks
    size = length // blocks
    outputs = []
    for begin in range(0, length, size):
        end = begin + size
        outputs.append(
            _attend(
                q_BxHxLxK[:, :, begin:end],
                k_BxGxSxK[:, :, :end],
                v_BxGxSxK[:, :, :end],
                q_segments_BxL[:, begin:end],
                k_segments_BxS[:, :end],
                begin,
            )
        )
    return jnp.concatenate(outputs, axis=2)


def query_blocks(length: int) -> int:
    """How many blocks `attention` cuts `length` queries into: as many as divide it, up to 8, with
    at least 64 queries each.

    Measured on a CPU in float32, forward and backward: 256 queries in 4 blocks take 0.3 of the time
    of one, 128 in 2 blocks 0.65; smaller blocks lose it again.
    """
    return max(n for n in (1, 2, 4, 8) if length % n == 0 and (n == 1 or length // n >= 64))


def keys_per_query(length: int) -> float:
    """How many keys `attention` lets a query meet, averaged over a window of `length`."""
    blocks = query_blocks(length)
    return length * (blocks + 1) / (2 * blocks)


def _attend(
    q_BxHxLxK: Array,
    k_BxGxSxK: Array,
    v_BxGxSxK: Array,
    q_segments_BxL: Array,
    k_segments_BxS: Array,
    start: Array | int,
) -> Array:
    """One block of scaled queries, the first at slot `start`, against all the keys given."""
    batch, heads, length, channels = q_BxHxLxK.shape
    groups, slots = k_BxGxSxK.shape[1:3]
    q_BxGxRxLxK = q_BxHxLxK.reshape(batch, groups, heads // groups, length, channels)
    scores_BxGxRxLxS = jnp.einsum(
        "BGRLK,BGSK->BGRLS",
        q_BxGxRxLxK,
        k_BxGxSxK,
        preferred_element_type=jnp.float32,
    )
    causal_LxS = jnp.arange(slots)[None, :] <= start + jnp.arange(length)[:, None]
    same_BxLxS = q_segments_BxL[:, :, None] == k_segments_BxS[:, None, :]
    seen = (same_BxLxS & causal_LxS[None])[:, None, None]
    scores_BxGxRxLxS = jnp.where(seen, scores_BxGxRxLxS, jnp.finfo(jnp.float32).min)
    # A softmax that divides after the values are summed: K channels are fewer than S keys.
    largest = jax.lax.stop_gradient(scores_BxGxRxLxS.max(axis=-1, keepdims=True))
    weights_BxGxRxLxS = jnp.exp(scores_BxGxRxLxS - largest)
    out_BxGxRxLxK = jnp.einsum(
        "BGRLS,BGSK->BGRLK",
        weights_BxGxRxLxS.astype(v_BxGxSxK.dtype),
        v_BxGxSxK,
        preferred_element_type=jnp.float32,
    )
    out_BxGxRxLxK /= weights_BxGxRxLxS.sum(axis=-1, keepdims=True)
    return out_BxGxRxLxK.reshape(batch, heads, length, channels).astype(v_BxGxSxK.dtype)
