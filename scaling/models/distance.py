"""Attention with linear biases: a score falls with the distance of the key, each head at its rate.

Takes queries, keys and values of any form of attention (`attention.py`); gives them with two more
channels each, whose products are the bias, so that every form computes it. Shapes as in
`layers.py`.
"""

import math

import jax.numpy as jnp

from scaling.models.layers import Array

CHANNELS = 2  # of a key: its slot in two digits to this base, each exact in 8 bits of a mantissa
_BASE = 128


def slopes(heads: int) -> Array:
    """2^(-8 h / H) for h = 1 to H: float32 [H] (Press et al. 2022, arXiv 2108.12409, section 3, of
    which this is the geometric sequence for any number of heads).
    """
    return 2.0 ** (-8.0 * jnp.arange(1, heads + 1, dtype=jnp.float32) / heads)


def with_distance(
    q_BxHxLxK: Array, k_BxGxSxK: Array, v_BxGxSxK: Array
) -> tuple[Array, Array, Array]:
    """The three with `CHANNELS` more, so that a score has slope * (slot of the key) added.

    What a softmax sees of it is -slope * distance: the slot of the query is the same for all its
    keys, and documents that begin later only shift both. Queries are also multiplied by what a
    division by the root of more channels takes from them.
    """
    heads, channels = q_BxHxLxK.shape[1], q_BxHxLxK.shape[3]
    wide, dtype = channels + CHANNELS, q_BxHxLxK.dtype
    slots = jnp.arange(k_BxGxSxK.shape[2])
    digits_SxC = jnp.stack([slots // _BASE, slots % _BASE], axis=1)
    rates_HxC = slopes(heads)[:, None] * jnp.array([[_BASE, 1.0]]) * math.sqrt(wide)

    def joined(x: Array, more: Array) -> Array:
        more = jnp.broadcast_to(more.astype(x.dtype), (*x.shape[:3], CHANNELS))
        return jnp.concatenate([x, more], axis=-1)

    q = joined((q_BxHxLxK * math.sqrt(wide / channels)).astype(dtype), rates_HxC[None, :, None])
    k = joined(k_BxGxSxK, digits_SxC[None, None])
    return q, k, joined(v_BxGxSxK, jnp.zeros((1, 1, 1, CHANNELS)))
