"""Matmuls of 8 bits: `einsum` for `model.matmul` int8 and fp8, by the library qwix.

Takes float operands, gives a float result; the scales are found anew at each call, one for each row
of an operand, so nothing is added to the train state. `layers.Projection` calls it.
"""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp

from scaling.errors import ConfigError

Array = jax.Array
Matmul = Literal["int8", "fp8"]

# Of the operands, and of the gradient, which needs range more than digits (Micikevicius et al.
# 2022, FP8 formats for deep learning, section 3).
_TYPES = {"int8": (jnp.int8, jnp.int8), "fp8": (jnp.float8_e4m3fn, jnp.float8_e5m2)}


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def einsum(spec: str, x: Array, w: Array, matmul: Matmul) -> Array:
    """einsum(spec, x, w) of operands rounded to 8 bits, in the dtype of `x`; `w` is float32.

    Each operand is scaled by its largest magnitude over the axes that the sum runs over. The
    gradient of `x` is such a product too; that of `w`, a sum over all tokens, is not rounded and
    takes `x` as it was. Derivatives pass through the rounding.

    Raises ConfigError if qwix is not installed.
    """
    kind, _ = _TYPES[matmul]
    return _product(spec, x, w, kind, kind).astype(x.dtype)


def _forward(spec: str, x: Array, w: Array, matmul: Matmul) -> tuple[Array, Any]:
    return einsum(spec, x, w, matmul), (x, w)


def _backward(
    spec: str, matmul: Matmul, kept: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    (x, w), (kind, gradient_kind) = kept, _TYPES[matmul]
    x_axes, w_axes, out = _axes(spec)
    of_x = _product(f"{out},{w_axes}->{x_axes}", g, w, gradient_kind, kind).astype(x.dtype)
    of_w = jnp.einsum(f"{x_axes},{out}->{w_axes}", x, g, preferred_element_type=jnp.float32)
    return of_x, of_w


einsum.defvjp(_forward, _backward)


def _axes(spec: str) -> tuple[str, str, str]:
    """Names of the axes of x, of w and of the result."""
    operands, out = spec.split("->")
    x_axes, w_axes = operands.split(",")
    return x_axes, w_axes, out


def _product(spec: str, x: Array, w: Array, x_kind: Any, w_kind: Any) -> Array:
    try:
        import qwix
    except ModuleNotFoundError as missing:
        raise ConfigError(
            "model.matmul other than default needs the package qwix: "
            "pip install -e '.[quantized]', or leave model.matmul unset"
        ) from missing
    x_axes, w_axes, out = _axes(spec)

    def rounded(array: Array, axes: str, kind: Any) -> Any:
        rows = [i for i, name in enumerate(axes) if name in out]
        return qwix.quantize(array.astype(jnp.float32), kind, channelwise_axes=rows)

    return qwix.einsum(spec, rounded(x, x_axes, x_kind), rounded(w, w_axes, w_kind))
