"""The layers every family is built from: projection, norm, rotary positions, attention, MLP.

They take plain typed fields and arrays and are used by the families in this folder. A tensor's name
carries its shape: B batch, L length (queries), S length (keys), D width, F MLP channels, H query
heads, G key-value heads, R = H / G queries that share a key, K channels a head, V vocabulary.
Logical axes of parameters: vocab, embed, heads, kv_heads, head_dim, mlp, norm, layers; of
activations: batch, seq, act_seq, act_embed, act_heads, act_kv_heads, act_mlp, act_vocab.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from scaling.models import quantized
from scaling.models.fields import Activation

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

    The sum runs over the last axes of x and the first of w, and the fan-in is read off it: the
    product of the weight's axes that the sum runs over. Weights start from a truncated normal with
    std `init_scale / sqrt(fan_in)` (LeCun et al. 1998, Efficient BackProp, section 4.6), which
    keeps the variance of the input. A bias, of the axes of y that w has, starts at zero.
    """

    spec: str  # "BLD,DHK->BLHK": x, w -> y
    shape: tuple[int, ...]  # of w
    axes: tuple[str, ...]  # logical axes of w
    dtype: Any
    init_scale: float = 1.0
    matmul: Literal["default", "int8", "fp8"] = "default"
    bias: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        names, out = self.spec.split(",")[1].split("->")
        fan_in = math.prod(
            size for name, size in zip(names, self.shape, strict=True) if name not in out
        )
        init = truncated_normal(self.init_scale / math.sqrt(fan_in))
        w = parameter(self, "w", init, self.shape, self.axes)
        dtype = jnp.dtype(self.dtype)
        if self.matmul == "default":
            contracted = sum(name not in out for name in names)
            y = contract(contracted, dtype, x.astype(dtype), w)
        else:
            y = quantized.einsum(self.spec, x.astype(dtype), w, self.matmul)
        if self.bias:
            own = [i for i, name in enumerate(names) if name in out]
            shape, axes = tuple(self.shape[i] for i in own), tuple(self.axes[i] for i in own)
            bias = parameter(self, "bias", nn.initializers.zeros, shape, axes)
            y += bias.astype(dtype).reshape((1,) * (y.ndim - bias.ndim) + bias.shape)
        return checkpoint_name(y, "projection")  # see remat.py


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def contract(axes: int, dtype: Any, x: Array, w: Array) -> Array:
    """Sum over the last `axes` axes of `x` and the first of `w`, in `dtype`.

    `w` and its gradient are float32. By hand is only that gradient, for XLA's CPU compiler, which
    writes out the first operand of such a product transposed, and computes what led to it once
    more, for that copy alone. So the smaller one goes first; left to itself JAX begins with the
    gradient of y, and an MLP's forward and backward pass take 1.7 times as long.
    """
    return _dot(x, w.astype(dtype), _last(x, axes), range(axes), dtype)


def _contract_forward(
    axes: int, dtype: Any, x: Array, w: Array
) -> tuple[Array, tuple[Array, Array]]:
    return contract(axes, dtype, x, w), (x, w)


def _contract_backward(
    axes: int, dtype: Any, kept: tuple[Array, Array], dy: Array
) -> tuple[Array, Array]:
    x, w = kept
    dx = _dot(dy, w.astype(dtype), _last(dy, w.ndim - axes), range(axes, w.ndim), dtype)
    rows = range(x.ndim - axes)
    # Of bfloat16 in this order; XLA's CPU compiler has no transposed product of it (jax 0.10).
    if dtype != jnp.float32 or math.prod(w.shape[:axes]) <= math.prod(w.shape[axes:]):
        return dx, _dot(x, dy, rows, rows, jnp.float32)
    dw = _dot(dy, x, rows, rows, jnp.float32)
    return dx, dw.transpose(*range(w.ndim - axes, w.ndim), *range(w.ndim - axes))


contract.defvjp(_contract_forward, _contract_backward)


def _last(x: Array, axes: int) -> range:
    return range(x.ndim - axes, x.ndim)


def _dot(a: Array, b: Array, over_a: range, over_b: range, accumulate: Any) -> Array:
    dimensions = ((tuple(over_a), tuple(over_b)), ((), ()))
    return jax.lax.dot_general(a, b, dimensions, preferred_element_type=accumulate)


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


class LayerNorm(nn.Module):
    """(x - mean) / deviation * scale + bias over the last axis (Ba et al. 2016); statistics in
    float32.
    """

    eps: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (1,) * (x.ndim - 1) + (-1,)
        scale = parameter(self, "scale", jax.nn.initializers.ones, (x.shape[-1],), ("norm",))
        bias = parameter(self, "bias", jax.nn.initializers.zeros, (x.shape[-1],), ("norm",))
        x = x.astype(jnp.float32)
        x -= x.mean(axis=-1, keepdims=True)
        x *= jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + self.eps)
        return (x * scale.reshape(shape) + bias.reshape(shape)).astype(self.dtype)


NORMS = {"rms": RMSNorm, "layer": LayerNorm}  # by the name of a config's field


class Linear(nn.Module):
    """x W + b, [B, I] -> [B, O]; W starts as `Projection`'s, b at zero."""

    outputs: int
    axes: tuple[str, str]  # logical axes of W
    dtype: Any
    init_scale: float = 1.0

    @nn.compact
    def __call__(self, x_BxI: Array) -> Array:
        shape = (x_BxI.shape[-1], self.outputs)
        y_BxO = Projection(
            "BI,IO->BO", shape, self.axes, self.dtype, self.init_scale, name="matrix"
        )(x_BxI)
        bias = parameter(self, "bias", jax.nn.initializers.zeros, (self.outputs,), (self.axes[1],))
        return y_BxO + bias[None].astype(self.dtype)


def angles_of(positions: Array, channels: int, theta: float, by: np.ndarray | None = None) -> Array:
    """Angles float32 [..., channels / 2] of positions [...]: wavelengths from 2 pi to 2 pi theta
    (Vaswani et al. 2017, section 3.5); `by`: what each frequency is multiplied with.
    """
    frequencies = theta ** (-jnp.arange(0, channels, 2, dtype=jnp.float32) / channels)
    frequencies = frequencies if by is None else frequencies * by
    wide = (None,) * positions.ndim
    return positions.astype(jnp.float32)[..., None] * frequencies[wide]


def rope_table(
    positions_BxL: Array, head_dim: int, theta: float, by: np.ndarray | None = None
) -> tuple[Array, Array]:
    """Cosine and signed sine of the rotary angles for `rotate`, float32 [B, 1, L, head_dim].

    Channels i and i + head_dim / 2 are a pair, which turns by position * theta^(-2 i / head_dim)
    (Su et al. 2021, RoFormer, section 3.2.2), times `by`. Computed once and shared by all blocks.
    """
    angles = angles_of(positions_BxL[:, None], head_dim, theta, by)
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


# By the name of a config's field.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "silu": nn.silu,
    "gelu": nn.gelu,
    "gelu_exact": functools.partial(nn.gelu, approximate=False),
}


class MLP(nn.Module):
    """GELU MLP over the last axis, or its gated form with SiLU (SwiGLU: Shazeer 2020, GLU
    variants), or either with another activation.
    """

    width: int  # hidden channels
    gated: bool
    dtype: Any
    out_scale: float = 1.0  # multiplies the initial std of the output projection
    matmul: Literal["default", "int8", "fp8"] = "default"
    bias: bool = False
    axis: str = "embed"  # logical, of what it reads and makes
    activation: Activation = "usual"

    @nn.compact
    def __call__(self, x_BxLxD: Array) -> Array:
        d, rest = x_BxLxD.shape[-1], (self.matmul, self.bias)

        def into(name: str) -> Array:
            shape, axes = (d, self.width), (self.axis, "mlp")
            y = Projection("BLD,DF->BLF", shape, axes, self.dtype, 1.0, *rest, name=name)(x_BxLxD)
            return nn.with_logical_constraint(y, ("batch", "seq", "act_mlp"))

        usual = "silu" if self.gated else "gelu"
        active = ACTIVATIONS[usual if self.activation == "usual" else self.activation]
        h_BxLxF = active(into("gate")) * into("up") if self.gated else active(into("up"))
        shape, axes = (self.width, d), ("mlp", self.axis)
        down = Projection(
            "BLF,FD->BLD", shape, axes, self.dtype, self.out_scale, *rest, name="down"
        )
        return down(h_BxLxF)


def constrain(x_BxLxD: Array) -> Array:
    """Names the axes of the residual stream, which may have others before them, for the
    partitioner: the length lies over "act_seq" where that divides it, else over "seq".
    """
    leading = (None,) * (x_BxLxD.ndim - 3)
    sizes = jax.sharding.get_abstract_mesh().shape
    (axes,) = nn.logical_to_mesh_axes(("act_seq",)) or (None,)
    ways = math.prod(sizes.get(axis, 1) for axis in axes or ())
    length = "seq" if x_BxLxD.shape[-2] % ways else "act_seq"
    return nn.with_logical_constraint(x_BxLxD, (*leading, "batch", length, "act_embed"))
