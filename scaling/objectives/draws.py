"""Random numbers of a loss: a key for each row of a batch.

A row's key follows from the step's key and from what stands in the row. So a row draws the same
numbers on every mesh, in every microbatch and in every place of a batch, and rows that differ draw
numbers that have nothing to do with each other. Called by `objective.py`.
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
_GOLDEN = 0x9E3779B9


def keys(key: Array, batch: Mapping[str, Array]) -> Array:
    """[B] keys. Rows that are equal in every field have equal keys."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, row_hash(batch))


def row_hash(batch: Mapping[str, Array]) -> Array:
    """uint32 [B]: the sum modulo 2^32 of a row's 32-bit words, each times an odd number that goes
    by its place: rows that differ in one word have different hashes. Sums of integers do not depend
    on their order, and so not on the mesh. Fields are of 1, 2 or 4 bytes.
    """
    total: Array | None = None
    for salt, name in enumerate(sorted(batch)):
        x = batch[name]
        if x.dtype == jnp.bool_:
            x = x.astype(jnp.uint8)
        unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[x.dtype.itemsize]
        words_BxN = jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)
        count = math.prod(x.shape[1:])
        words_BxN = words_BxN.reshape(x.shape[0], count)
        place_N = np.arange(count, dtype=np.uint64) * 2 + 1
        odd_N = (place_N * _GOLDEN + 2 * salt * 0x85EBCA6B).astype(np.uint32)
        # An odd number times the top bits of a float alone would leave the low ones empty.
        words_BxN = words_BxN ^ (words_BxN >> 15)
        of_field_B = jnp.sum(words_BxN * odd_N[None], axis=1, dtype=jnp.uint32)
        total = of_field_B if total is None else total + of_field_B
    if total is None:
        raise ValueError("a batch without fields has no rows")
    return total
