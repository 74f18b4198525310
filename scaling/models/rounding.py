"""Weights on few levels, a scale for each output channel: symmetric about zero, which is a level.

Takes matrices and the axes that their product with an input sums over; gives whole numbers with
scales, or the weights that those stand for. Called by the transform that trains with them and by
what rounds trained weights.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

Array = jax.Array

TERNARY = 2  # bits that have the three levels -1, 0, 1


def most(bits: int) -> int:
    """The largest of the whole numbers that `bits` have, and minus it the least."""
    return int(2 ** (bits - 1) - 1)


def scale(w: Array, ins: Sequence[int], bits: int) -> Array:
    """What one level is, of the shape of `w` with 1 along `ins`; positive.

    The largest magnitude of a channel over the largest number; of three levels the mean magnitude
    (Ma et al. 2024, arXiv 2402.17764, eq. 3), as otherwise most weights would be zero.
    """
    size = jnp.abs(w)
    if bits == TERNARY:
        found = size.mean(axis=tuple(ins), keepdims=True)
    else:
        found = size.max(axis=tuple(ins), keepdims=True) / most(bits)
    return jnp.where(found > 0, found, 1.0)


def codes(w: Array, scale: Array, bits: int) -> Array:
    """The nearest whole numbers that there are; int8."""
    return jnp.clip(jnp.round(w / scale), -most(bits), most(bits)).astype(jnp.int8)


def values(codes: Array, scale: Array) -> Array:
    """The weights that whole numbers stand for; float32."""
    return codes.astype(jnp.float32) * scale


def straight_through(w: Array, ins: Sequence[int], bits: int) -> Array:
    """The rounded weights, with the gradient of the weights themselves (Bengio et al. 2013, arXiv
    1308.3432, section 4).
    """
    fixed = jax.lax.stop_gradient(w)
    one = scale(fixed, ins, bits)
    # The difference is zero, to the bit, and has the gradient.
    return values(codes(fixed, one, bits), one) + (w - fixed)
