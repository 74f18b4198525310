"""Rows in consecutive groups, each group times a matrix of its own: dropless experts.

`grouped_matmul` takes rows sorted by group and the groups' sizes, which may be traced, and gives
every row's product. A TPU has an instruction for it (`jax.lax.ragged_dot`); elsewhere XLA would
multiply every row with every matrix, so there a loop takes one block of rows after the other.
Called by `moe.py`. Shapes: N rows, E groups, I and O channels.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Array = jax.Array
_BLOCK = 128  # rows of a block; a group's last block is filled up with rows that do not count

_Dims = jax.lax.RaggedDotDimensionNumbers
_ROWS = _Dims((((1,), (1,)), ((), ())), [0], [0])  # NI, EIO -> NO
_ROWS_TRANSPOSED = _Dims((((1,), (2,)), ((), ())), [0], [0])  # NO, EIO -> NI
_MATRICES = _Dims((((0,), (0,)), ((), ())), [0], [])  # NI, NO -> EIO


@jax.custom_vjp
def grouped_matmul(x_NxI: Array, w_ExIxO: Array, sizes_E: Array) -> Array:
    """[N, O]: row n times the matrix of its group, in the dtype of `x`.

    Args:
      sizes_E: rows of each group, one group after the other from row 0. Rows behind the last group
        give zeros, or anything at all on a TPU.
    """
    return _rows(x_NxI, w_ExIxO, sizes_E, transposed=False)


def _forward(x_NxI: Array, w_ExIxO: Array, sizes_E: Array) -> tuple[Array, tuple[Array, ...]]:
    return grouped_matmul(x_NxI, w_ExIxO, sizes_E), (x_NxI, w_ExIxO, sizes_E)


def _backward(kept: tuple[Array, ...], d_NxO: Array) -> tuple[Array, Array, None]:
    x_NxI, w_ExIxO, sizes_E = kept
    d_w = _matrices(x_NxI, d_NxO, sizes_E).astype(w_ExIxO.dtype)
    return _rows(d_NxO, w_ExIxO, sizes_E, transposed=True), d_w, None


grouped_matmul.defvjp(_forward, _backward)


def _rows(x_NxI: Array, w_ExIxO: Array, sizes_E: Array, transposed: bool) -> Array:
    """Row by row x @ w, or x @ w.T."""
    dims = _ROWS_TRANSPOSED if transposed else _ROWS

    def ragged(x_NxI: Array, w_ExIxO: Array, sizes_E: Array) -> Array:
        return jax.lax.ragged_dot_general(x_NxI, w_ExIxO, sizes_E, dims)

    def blocks(x_NxI: Array, w_ExIxO: Array, sizes_E: Array, exact: bool) -> Array:
        out = jnp.zeros_like(x_NxI, shape=(x_NxI.shape[0], w_ExIxO.shape[1 if transposed else 2]))

        def add(out: Array, group: Array, at: Array, counts: Array) -> Array:
            w = jax.lax.dynamic_index_in_dim(w_ExIxO, group, keepdims=False)
            y = _slice(x_NxI, at, counts.shape[0]) @ (w.T if transposed else w)
            y = jnp.where(counts[:, None], y, _slice(out, at, counts.shape[0]))
            return jax.lax.dynamic_update_slice_in_dim(out, y, at, axis=0)

        return _over_blocks(add, out, sizes_E, x_NxI.shape[0], exact)

    return _by_platform(ragged, blocks, x_NxI, w_ExIxO, sizes_E)


def _matrices(x_NxI: Array, d_NxO: Array, sizes_E: Array) -> Array:
    """Group by group x.T @ d, float32 [E, I, O]."""

    def ragged(x_NxI: Array, d_NxO: Array, sizes_E: Array) -> Array:
        return jax.lax.ragged_dot_general(
            x_NxI, d_NxO, sizes_E, _MATRICES, preferred_element_type=jnp.float32
        )

    def blocks(x_NxI: Array, d_NxO: Array, sizes_E: Array, exact: bool) -> Array:
        shape = (len(sizes_E), x_NxI.shape[1], d_NxO.shape[1])
        out = jnp.zeros_like(d_NxO, shape=shape, dtype=jnp.float32)

        def add(out: Array, group: Array, at: Array, counts: Array) -> Array:
            size = counts.shape[0]
            x = jnp.where(counts[:, None], _slice(x_NxI, at, size), 0)
            d = _slice(d_NxO, at, size)
            one = jnp.matmul(x.T, d, preferred_element_type=jnp.float32)
            one += jax.lax.dynamic_index_in_dim(out, group, keepdims=False)
            return jax.lax.dynamic_update_index_in_dim(out, one, group, axis=0)

        return _over_blocks(add, out, sizes_E, x_NxI.shape[0], exact)

    return _by_platform(ragged, blocks, x_NxI, d_NxO, sizes_E)


def _by_platform(ragged: Callable[..., Array], blocks: Callable[..., Array], *args: Array) -> Array:
    """On a CPU the loop ends with the last block that counts. Elsewhere the host would have to ask
    the device each time: there the number of blocks is the most that there can be.
    """
    return jax.lax.platform_dependent(
        *args,
        tpu=ragged,
        cpu=lambda *args: blocks(*args, exact=True),
        default=lambda *args: blocks(*args, exact=False),
    )


def _over_blocks(
    add: Callable[..., Array], out: Array, sizes_E: Array, rows: int, exact: bool
) -> Array:
    """`add(out, group, at, counts)` for every block: rows `at` and on that `counts` marks."""
    size = min(_BLOCK, rows)
    blocks_E = -(-sizes_E // size)
    last_E, ends_E = jnp.cumsum(blocks_E), jnp.cumsum(sizes_E)

    def body(i: Array, out: Array) -> Array:
        group = jnp.minimum(jnp.sum(i >= last_E), len(sizes_E) - 1)
        within = i - (last_E[group] - blocks_E[group])
        begin, end = ends_E[group] - sizes_E[group] + within * size, ends_E[group]
        at = jnp.clip(begin, 0, rows - size)  # the last block may begin before its first row
        row = at + jnp.arange(size)
        return add(out, group, at, (row >= begin) & (row < end))

    count = last_E[-1] if exact else rows // size + len(sizes_E)
    return jax.lax.fori_loop(0, count, body, out)


def _slice(x_NxI: Array, at: Array, size: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(x_NxI, at, size, axis=0)
