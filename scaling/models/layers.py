"""The layers every family is built from: projection, norm, rotary positions, attention, MLP.

They take plain typed fields and arrays and are used by the families in this folder. A tensor's name
carries its shape: B batch, L length (queries), S length (keys), D width, F MLP channels, H query
heads, G key-value heads, R = H / G queries that share a key, K channels a head, V vocabulary.
Logical axes of parameters: vocab, embed, heads, kv_heads, head_dim, mlp, norm, layers; of
activations: batch, seq, act_embed, act_heads, act_kv_heads, act_mlp, act_vocab.
"""

import math
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array

# Standard deviation of a unit normal cut at two standard deviations: what the initialiser must
# divide by for the weights to have the standard deviation that is asked for.
_TRUNCATED_STD = 0.87962566103423978


def truncated_normal(std: float) -> jax.nn.initializers.Initializer:
    """Normal cut at two standard deviations, with standard deviation `std` after the cut."""
    return jax.nn.initializers.truncated_normal(std / _TRUNCATED_STD)


def parameter(
    module: nn.Module,
    name: str,
    init: jax.nn.initializers.Initializer,
    shape: tuple[int, ...],
    axes: tuple[str, ...],
) -> Array:
    """A float32 parameter of `module` at its true shape, with a logical name for each axis."""
    boxed = nn.with_logical_partitioning(init, axes)
    return cast(Array, module.param(name, boxed, shape, jnp.float32))


class Projection(nn.Module):
    """y = einsum(spec, x, w) with `w` stored at its true shape, so that sharding sees every axis.

    The fan-in is read off the einsum: the product of the weight's axes that the sum runs over.
    Weights start from a truncated normal with std `init_scale / sqrt(fan_in)` (LeCun et al. 1998,
    Efficient BackProp, section 4.6), which keeps the variance of the input.
    """

    spec: str  # "BLD,DHK->BHLK": x, w -> y
    shape: tuple[int, ...]  # of w
    axes: tuple[str, ...]  # logical axes of w
    dtype: Any
    init_scale: float = 1.0

    @nn.compact
    def __call__(self, x: Array, accumulate: Any = None) -> Array:
        """`accumulate`: dtype of the result (None: the compute dtype)."""
        names, out = self.spec.split(",")[1].split("->")
        fan_in = math.prod(
            size for name, size in zip(names, self.shape, strict=True) if name not in out
        )
        init = truncated_normal(self.init_scale / math.sqrt(fan_in))
        w = parameter(self, "w", init, self.shape, self.axes)
        return jnp.einsum(
            self.spec, x.astype(self.dtype), w.astype(self.dtype), preferred_element_type=accumulate
        )


class RMSNorm(nn.Module):
    """x / rms(x) * scale over the last axis (Zhang and Sennrich 2019); statistics in float32."""

    eps: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = parameter(self, "scale", jax.nn.initializers.ones, (x.shape[-1],), ("norm",))
        x32 = x.astype(jnp.float32)
        inverse_rms = jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + self.eps)
        scale = scale.reshape((1,) * (x.ndim - 1) + (-1,))
        return (x32 * inverse_rms * scale).astype(self.dtype)


def rope_table(positions_BxL: Array, head_dim: int, theta: float) -> tuple[Array, Array]:
    """Cosine and signed sine of the rotary angles for `rotate`, float32 [B, 1, L, head_dim].

    Channels i and i + head_dim / 2 are a pair, which turns by position * theta^(-2 i / head_dim)
    (Su et al. 2021, RoFormer, section 3.2.2). Computed once and shared by all blocks.
    """
    frequencies = theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
    angles = positions_BxL.astype(jnp.float32)[:, None, :, None] * frequencies[None, None, None, :]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([cos, cos], axis=-1), jnp.concatenate([-sin, sin], axis=-1)


def rotate(x_BxHxLxK: Array, table: tuple[Array, Array]) -> Array:
    """Turns every pair of channels by the angles of `table`; float32 inside.

    (a, b) -> (a cos - b sin, b cos + a sin), written as one expression over all the channels.
    """
    cos, signed_sin = table
    x = x_BxHxLxK.astype(jnp.float32)
    partner = jnp.roll(x, x.shape[-1] // 2, axis=-1)
    return (x * cos + partner * signed_sin).astype(x_BxHxLxK.dtype)


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


class MLP(nn.Module):
    """GELU MLP, or its gated form with SiLU (SwiGLU: Shazeer 2020, GLU variants)."""

    width: int  # hidden channels
    gated: bool
    dtype: Any
    out_scale: float = 1.0  # multiplies the initial std of the output projection

    @nn.compact
    def __call__(self, x_BxLxD: Array) -> Array:
        d = x_BxLxD.shape[-1]

        def into(name: str) -> Array:
            shape, axes = (d, self.width), ("embed", "mlp")
            y = Projection("BLD,DF->BLF", shape, axes, self.dtype, name=name)(x_BxLxD)
            return nn.with_logical_constraint(y, ("batch", "seq", "act_mlp"))

        if self.gated:
            h_BxLxF = nn.silu(into("gate")) * into("up")
        else:
            h_BxLxF = nn.gelu(into("up"))
        shape, axes = (self.width, d), ("mlp", "embed")
        down = Projection("BLF,FD->BLD", shape, axes, self.dtype, self.out_scale, name="down")
        return down(h_BxLxF)
