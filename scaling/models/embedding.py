"""The lookup of tokens in an embedding, by which every family that reads text begins.

Shapes as in `layers.py`.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.models.layers import Array
from scaling.models.observed import through


def lookup(table_VxD: Array, tokens_BxL: Array, dtype: Any) -> Array:
    """Rows of the float32 table in the compute dtype, [B, L, D].

    The table is cast, then gathered over fsdp, then looked up: the partitioner has no good plan
    for looking rows up in a table that is cut along the width. The gradient is summed in float32,
    since a frequent token adds up thousands of small terms.
    """
    return through(_taken(table_VxD, tokens_BxL, dtype))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _taken(table_VxD: Array, tokens_BxL: Array, dtype: Any) -> Array:
    whole_VxD = nn.with_logical_constraint(table_VxD.astype(dtype), ("act_vocab", "act_embed"))
    return jnp.take(whole_VxD, tokens_BxL, axis=0)


def _lookup_forward(table_VxD: Array, tokens_BxL: Array, dtype: Any) -> tuple[Array, Any]:
    return _taken(table_VxD, tokens_BxL, dtype), (table_VxD, tokens_BxL)


def _lookup_backward(dtype: Any, kept: Any, of_BxLxD: Array) -> tuple[Array, None]:
    table_VxD, tokens_BxL = kept  # of the table only the shape
    sum_VxD = jnp.zeros_like(table_VxD).at[tokens_BxL].add(of_BxLxD.astype(table_VxD.dtype))
    return nn.with_logical_constraint(sum_VxD, ("act_vocab", "act_embed")), None


_taken.defvjp(_lookup_forward, _lookup_backward)
