"""The two forms of a packed step: all members at once, or one after the other, in one program.

Each takes the stacked states of a group, its batches and how many steps each member makes; gives
the states after them and the metrics of every step. Called, inside jit, by `trials.py`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from scaling.train.state import TrainState
from scaling.train.step import Batch, HParams, Metrics


def zeros(shapes: Any, *leading: int) -> Any:
    """Zeros of these shapes behind the `leading` dimensions."""
    return jax.tree.map(lambda s: jnp.zeros((*leading, *s.shape), s.dtype), shapes)


def one_by_one(
    steps: Callable[..., tuple[TrainState, Metrics]],
    state_T: TrainState,
    batches_TxK: Batch,
    counts_T: jax.Array,
    longest: jax.Array,
    hparams_T: HParams,
) -> tuple[TrainState, Metrics]:
    """Slot after slot: each takes the state of its slot out, steps it, and puts it back."""

    def of(t: Any, tree: Any) -> Any:
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, t, keepdims=False), tree)

    def one(t: Any, state_T: TrainState) -> tuple[TrainState, Metrics]:
        state, batches_K, count, hparams = of(t, (state_T, batches_TxK, counts_T, hparams_T))
        return steps(state, batches_K, count, hparams)

    def body(t: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
        of_slot = one(t, carry[0])
        return jax.tree.map(
            lambda all_, x: jax.lax.dynamic_update_index_in_dim(all_, x, t, 0), carry, of_slot
        )

    slots = counts_T.shape[0]
    _, shapes = jax.eval_shape(lambda s: one(0, s), state_T)
    return jax.lax.fori_loop(0, slots, body, (state_T, zeros(shapes, slots)))


def at_once(
    step_T: Callable[..., tuple[TrainState, Metrics]],
    state_T: TrainState,
    batches_TxK: Batch,
    counts_T: jax.Array,
    longest: jax.Array,
    hparams_T: HParams,
) -> tuple[TrainState, Metrics]:
    """All slots a step at a time; those that have made theirs keep their state."""

    def one(i: Any, state_T: TrainState) -> tuple[TrainState, Metrics]:
        batch_T = jax.tree.map(
            lambda x: jax.lax.dynamic_index_in_dim(x, i, axis=1, keepdims=False), batches_TxK
        )
        new_T, metrics_T = step_T(state_T, batch_T, hparams_T)

        def choose(new: jax.Array, old: jax.Array) -> jax.Array:
            steps_T = (i < counts_T).reshape(-1, *[1] * (new.ndim - 1))
            return jnp.where(steps_T, new, old)

        return jax.tree.map(choose, new_T, state_T), metrics_T

    length = jax.tree.leaves(batches_TxK)[0].shape[1]
    if length == 1:
        state_T, metrics_T = one(0, state_T)
        return state_T, jax.tree.map(lambda m: jnp.expand_dims(m, 1), metrics_T)
    _, shapes_T = jax.eval_shape(lambda s: one(0, s), state_T)
    shapes = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape[1:], s.dtype), shapes_T)
    room = zeros(shapes, counts_T.shape[0], length)

    def body(i: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
        state_T, metrics_T = one(i, carry[0])
        return state_T, jax.tree.map(lambda a, m: a.at[:, i].set(m), carry[1], metrics_T)

    return jax.lax.fori_loop(0, longest, body, (state_T, room))
