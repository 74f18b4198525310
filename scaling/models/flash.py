"""Attention whose memory grows linearly with the length: blocks of queries meet blocks of keys.

Takes queries, keys and values by head; gives the weighted values. Scores exist for one pair of
blocks at a time: in the forward pass under an online softmax (Milakov and Gimelshein 2018; Dao et
al. 2022, FlashAttention, algorithm 1), in the hand-written backward pass computed again from the
log-sum-exp that was kept. Keys may lie on other devices along a mesh axis (Liu et al. 2023, Ring
Attention). Plain JAX, for every platform; called by `attention.py`. Shapes as in `layers.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling.models.layers import Array

HIDDEN = float(np.finfo(np.float32).min)  # score of a key that a query does not see


@dataclass(frozen=True)
class Keys:
    """Which keys a query sees, where they lie, and how they are cut."""

    window: int | None = None  # the latest, the query's own included; None: all up to its own
    block: int = 128  # queries, and keys, of a block at most
    axis: Any = None  # mesh axis that the length is cut along; None: it is whole
    shards: int = 1  # devices along it
    ring: bool = False  # keys travel from device to device; False: each device gathers all


class Piece(NamedTuple):
    """Keys and values of consecutive slots."""

    k_BxGxSxK: Array
    v_BxGxSxK: Array
    segments_BxS: Array | None  # None: all slots are of one document


def forward(q_BxHxLxK: Array, piece: Piece, keys: Keys) -> tuple[Array, Array]:
    """Values [B, H, L, K], and log-sum-exp of the scores, float32 [B, H, L].

    Queries are scaled already, and stand at the slots of `piece`. With `keys.axis`, inside
    `jax.shard_map` over it, every array is one device's part of the length.
    """
    length = q_BxHxLxK.shape[2]
    padded = _padded_length(length, keys.block)
    q, q_segments = _pad(_by_group(q_BxHxLxK, piece), 3, padded), _pad(piece[2], 1, padded)

    def visit(state: Any, piece: Piece, start: Array | int) -> tuple[Any, tuple[()]]:
        def meet(pair: _Pair, by_query: Any, by_key: tuple[()]) -> Any:
            out, largest, total = by_query
            scores = pair.scores(q, q_segments, keys.window)
            now = jnp.maximum(largest, scores.max(axis=-1))
            weights, keep = jnp.exp(scores - now[..., None]), jnp.exp(largest - now)
            v = pair.keys(pair.piece.v_BxGxSxK)
            out = keep[..., None] * out + _einsum("BGRLS,BGSK->BGRLK", weights.astype(v.dtype), v)
            return (out, now, keep * total + weights.sum(axis=-1)), by_key

        return _each_pair(meet, state, (), length, piece, start, keys)

    zeros = jnp.zeros(q.shape, jnp.float32)
    state = (zeros, jnp.full(q.shape[:-1], HIDDEN), zeros[..., 0])
    (out, largest, total), _ = _each_piece(visit, state, piece, keys)
    out, log_sum = out / total[..., None], largest + jnp.log(total)
    out_BxHxLxK = out[..., :length, :].astype(piece.v_BxGxSxK.dtype).reshape(q_BxHxLxK.shape)
    return out_BxHxLxK, log_sum[..., :length].reshape(q_BxHxLxK.shape[:-1])


def backward(
    q_BxHxLxK: Array,
    piece: Piece,
    keys: Keys,
    out_BxHxLxK: Array,
    log_sum_BxHxL: Array,
    grad_BxHxLxK: Array,
) -> tuple[Array, Array, Array]:
    """Gradients by queries, keys and values, from what `forward` took and gave and the gradient by
    its values (Dao et al. 2022, algorithm 4).
    """
    length = q_BxHxLxK.shape[2]
    padded = _padded_length(length, keys.block)
    # The softmax takes from each weight's gradient their weighted mean, which is grad . out.
    mean_BxHxL = (grad_BxHxLxK.astype(jnp.float32) * out_BxHxLxK).sum(axis=-1)
    q, grad, log_sum, mean = (
        _pad(_by_group(x, piece), 3, padded)
        for x in (q_BxHxLxK, grad_BxHxLxK, log_sum_BxHxL, mean_BxHxL)
    )
    q_segments = _pad(piece.segments_BxS, 1, padded)

    def visit(dq: Array, piece: Piece, start: Array | int) -> tuple[Array, Any]:
        def meet(pair: _Pair, by_query: Any, by_key: Any) -> Any:
            ((dq,), (dk, dv)), of = (by_query, by_key), pair.queries
            k, v = pair.keys(pair.piece.k_BxGxSxK), pair.keys(pair.piece.v_BxGxSxK)
            scores = pair.scores(q, q_segments, keys.window)
            weights = jnp.exp(scores - of(log_sum)[..., None])
            d_weights = _einsum("BGRLK,BGSK->BGRLS", of(grad), v)
            d_scores = (weights * (d_weights - of(mean)[..., None])).astype(k.dtype)
            dv += _einsum("BGRLS,BGRLK->BGSK", weights.astype(v.dtype), of(grad))
            dk += _einsum("BGRLS,BGRLK->BGSK", d_scores, of(q))
            dq += _einsum("BGRLS,BGSK->BGRLK", d_scores, k)
            return (dq,), (dk, dv)

        batch, groups, slots, channels = piece.k_BxGxSxK.shape
        shape = (batch, groups, _padded_length(slots, keys.block), channels)
        zeros = (jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32))
        (dq,), of_keys = _each_pair(meet, (dq,), zeros, length, piece, start, keys)
        return dq, tuple(x[:, :, :slots] for x in of_keys)

    dq, (dk, dv) = _each_piece(visit, jnp.zeros(q.shape, jnp.float32), piece, keys)
    dq_BxHxLxK = dq[..., :length, :].reshape(q_BxHxLxK.shape).astype(q_BxHxLxK.dtype)
    return dq_BxHxLxK, dk.astype(piece.k_BxGxSxK.dtype), dv.astype(piece.v_BxGxSxK.dtype)


# ---- pieces: keys of this device and of others


def _each_piece(
    visit: Callable[[Any, Piece, Array | int], tuple[Any, Any]],
    state: Any,
    piece: Piece,
    keys: Keys,
) -> tuple[Any, Any]:
    """The state after `visit` of every piece that this device's queries may see, and what all
    devices' visits gave to this device's piece, summed.

    `visit(state, piece, start)` gives the state and arrays [B, G, S, K] for the piece, at whose
    slot `start` this device's first query stands.
    """
    if keys.axis is None:
        return visit(state, piece, 0)
    length = piece.k_BxGxSxK.shape[2]
    here = jax.lax.axis_index(keys.axis)
    if not keys.ring:

        def scatter(x: Array) -> Array:
            return jax.lax.psum_scatter(x, keys.axis, scatter_dimension=2, tiled=True)

        state, given = visit(state, gathered(piece, keys.axis), here * length)
        return state, jax.tree.map(scatter, given)

    def shift(tree: Any, by: int) -> Any:
        ring = [(i, (i + by) % keys.shards) for i in range(keys.shards)]
        return jax.tree.map(lambda x: jax.lax.ppermute(x, keys.axis, ring), tree)

    def hop(carry: Any, distance: Array) -> tuple[Any, None]:
        state, piece, given = carry
        piece, given = shift((piece, given), 1)
        # A piece that has come round the ring lies behind the queries: none of them sees it.
        start = length * jnp.where(distance <= here, distance, distance - keys.shards)
        state, more = visit(state, piece, start)
        return (state, piece, jax.tree.map(jnp.add, given, more)), None

    hops = ring_hops(length, keys)
    state, given = visit(state, piece, 0)
    if hops == 0:
        return state, given
    (state, _, given), _ = jax.lax.scan(hop, (state, piece, given), jnp.arange(1, hops + 1))
    return state, shift(given, -hops)


def gathered(piece: Piece, axis: Any) -> Piece:
    """The pieces of all devices along a mesh axis (None: of this one), joined."""
    if axis is None:
        return piece
    return jax.tree.map(
        lambda x: jax.lax.all_gather(x, axis, axis=_slot_axis(x), tiled=True), piece
    )


def ring_hops(length: int, keys: Keys) -> int:
    """How far a piece of `length` slots travels: all the way round, or as far as the window."""
    if keys.window is None:
        return keys.shards - 1
    return min(keys.shards - 1, -(-(keys.window - 1) // length))


# ---- pairs of blocks


def blocks(length: int, block: int) -> tuple[int, int]:
    """How many blocks `length` slots are cut into, and how many slots each has; the last may reach
    beyond the end.
    """
    count = -(-length // block)
    return count, -(-length // count)


def pairs(length: int, slots: int, start: int | None, keys: Keys) -> np.ndarray:
    """Blocks of queries and of keys that meet, int32 [P, 2]; `start` None: every pair."""
    (rows, height), (columns, width) = blocks(length, keys.block), blocks(slots, keys.block)
    listed = [(i, j) for i in range(rows) for j in range(columns)]
    if start is not None:
        listed = [(i, j) for i, j in listed if _meet(i, j, start, height, width, keys.window)]
    return np.array(listed, np.int32)


def _meet(row: Any, column: Any, start: Any, height: int, width: int, window: int | None) -> Any:
    """Whether a query of block `row` sees a key of block `column`."""
    distance = start + row * height - column * width  # of the first query from the first key
    below = distance + height > 0
    return below if window is None else below & (distance - width + 1 < window)


class _Pair(NamedTuple):
    """A block of queries and a block of keys."""

    row: Array | int  # where the block of queries begins in the padded queries
    column: Array | int  # where that of keys begins in the padded piece
    start: Array | int  # slot in the piece of the first of all queries
    height: int
    width: int
    slots: int  # of the piece; those beyond are padding
    piece: Piece  # padded

    def queries(self, x: Array) -> Array:
        """The block's part of an array [B, G, R, L, ...] or [B, L]."""
        axis = 3 if x.ndim > 2 else 1
        return jax.lax.dynamic_slice_in_dim(x, self.row, self.height, axis)

    def keys(self, x: Array) -> Array:
        """The block's part of an array [B, G, S, K] or [B, S]."""
        return jax.lax.dynamic_slice_in_dim(x, self.column, self.width, _slot_axis(x))

    def scores(self, q: Array, q_segments: Array | None, window: int | None) -> Array:
        """float32 [B, G, R, L, S]; those that are not to be seen are the least there is."""
        scores = _einsum("BGRLK,BGSK->BGRLS", self.queries(q), self.keys(self.piece.k_BxGxSxK))
        key_S = self.column + jnp.arange(self.width)
        query_L = self.start + self.row + jnp.arange(self.height)
        distance_LxS = query_L[:, None] - key_S[None, :]
        if self.slots % self.width:  # padding is seen by nobody
            distance_LxS = jnp.where((key_S < self.slots)[None, :], distance_LxS, -1)
        k_segments = self.piece.segments_BxS
        if q_segments is not None and k_segments is not None:
            q_segments, k_segments = self.queries(q_segments), self.keys(k_segments)
        return jnp.where(seen(distance_LxS, q_segments, k_segments, window), scores, HIDDEN)


def _each_pair(
    meet: Callable[[_Pair, Any, Any], tuple[Any, Any]],
    by_query: Any,
    by_key: Any,
    length: int,
    piece: Piece,
    start: Array | int,
    keys: Keys,
) -> tuple[Any, Any]:
    """Arrays of all queries and of all keys after `meet` of every pair of blocks in which a query
    sees a key. `meet` takes and gives the two blocks of them.

    The pairs are one scan, so that the program does not grow with the length.
    """
    slots = piece.k_BxGxSxK.shape[2]
    height, width = blocks(length, keys.block)[1], blocks(slots, keys.block)[1]
    size = _padded_length(slots, keys.block)
    padded = jax.tree.map(lambda x: _pad(x, _slot_axis(x), size), piece)
    static = isinstance(start, int)

    def body(state: Any, indices: Array) -> tuple[Any, None]:
        row, column = indices[0] * height, indices[1] * width
        pair = _Pair(row, column, start, height, width, slots, padded)
        old = jax.tree.map(pair.queries, state[0]), jax.tree.map(pair.keys, state[1])
        if static:
            new = meet(pair, *old)
        else:
            some = _meet(indices[0], indices[1], start, height, width, keys.window)
            new = jax.lax.cond(some, lambda old: meet(pair, *old), lambda old: old, old)

        def put(begin: Array, axis: int) -> Callable[[Array, Array], Array]:
            return lambda x, b: jax.lax.dynamic_update_slice_in_dim(x, b, begin, axis)

        by_query = jax.tree.map(put(row, 3), state[0], new[0])
        return (by_query, jax.tree.map(put(column, 2), state[1], new[1])), None

    listed = pairs(length, slots, start if isinstance(start, int) else None, keys)
    return jax.lax.scan(body, (by_query, by_key), jnp.asarray(listed))[0]


def seen(
    distance_LxS: Array,
    q_segments_BxL: Array | None,
    k_segments_BxS: Array | None,
    window: int | None,
) -> Array:
    """Which keys each query sees, bool [B or 1, 1, 1, L, S], by the slots it stands behind them."""
    seen_LxS = distance_LxS >= 0
    if window is not None:
        seen_LxS &= distance_LxS < window
    if q_segments_BxL is None or k_segments_BxS is None:
        return seen_LxS[None, None, None]
    return together(q_segments_BxL, k_segments_BxS) & seen_LxS[None, None, None]


def together(q_segments_BxL: Array, k_segments_BxS: Array) -> Array:
    """Which keys are of each query's segment, bool [B, 1, 1, L, S]."""
    return (q_segments_BxL[:, :, None] == k_segments_BxS[:, None, :])[:, None, None]


def _einsum(spec: str, x: Array, y: Array) -> Array:
    return jnp.einsum(spec, x, y, preferred_element_type=jnp.float32)


def _by_group(x_BxHxL: Array, piece: Piece) -> Array:
    """[B, H, ...] -> [B, G, R, ...]: the queries that share a key side by side."""
    batch, heads, *rest = x_BxHxL.shape
    groups = piece.k_BxGxSxK.shape[1]
    return x_BxHxL.reshape(batch, groups, heads // groups, *rest)


def _slot_axis(x: Array) -> int:
    """Of keys and values, or of segments."""
    return 2 if x.ndim > 2 else 1


def _padded_length(length: int, block: int) -> int:
    count, size = blocks(length, block)
    return count * size


def _pad(x: Any, axis: int, size: int) -> Any:
    """`x` (None: None) with zeros behind it along `axis`, `size` in all."""
    if x is None or x.shape[axis] == size:
        return x
    widths = [(0, size - x.shape[axis] if i == axis else 0) for i in range(x.ndim)]
    return jnp.pad(x, widths)
