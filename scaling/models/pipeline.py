"""The blocks as a pipeline over the mesh axis `stage`.

Takes the stacked parameters of all blocks and a function that runs some of them; the batch is cut
into microbatches, which pass from stage to stage. It is plain array code: an axis of stages leads
every array, the blocks are mapped over it, and a roll along it, which the partitioner makes a
collective-permute, moves each microbatch on. Called by `blocks.py`.

Shapes: S stages, M microbatches, R repeats (times a microbatch passes every stage), P blocks of a
visit, so that depth = R S P. Block (r S + s) P + p is the p-th of visit r to stage s. A `shard_map`
inside a block must be manual over every mesh axis, `stage` included, which the mapping adds to it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from scaling.models.fields import BlockConfig
from scaling.models.layers import Array, constrain
from scaling.models.remat import policy

# (parameters of P blocks, stream, context) -> (stream, penalties, each [B])
RunBlocks = Callable[[Any, Array, Any], tuple[Array, dict[str, Array]]]

# Results that cost next to nothing to make again. Among them are the weights of a visit, picked and
# cast: kept for the backward pass, they would be there once for every iteration.
_CHEAP = frozenset(
    [
        "broadcast_in_dim",
        "convert_element_type",
        "dynamic_slice",
        "gather",
        "reshape",
        "squeeze",
        "transpose",
    ]
)


def _kept(remat: str) -> Callable[..., bool]:
    """What the backward pass keeps of a visit: what its blocks keep, and their inputs."""
    if remat == "none":
        return lambda primitive, *_, **__: primitive.name not in _CHEAP
    return policy(remat, "stream")


def stages_here() -> int:
    """Size of the mesh axis `stage` where the model is being traced; 1 without a mesh."""
    return jax.sharding.get_abstract_mesh().shape.get("stage", 1)


def run_pipeline(
    config: BlockConfig,
    run: RunBlocks,
    params: Any,
    x_BxLxD: Array,
    context: Mapping[str, Any],
) -> tuple[Array, dict[str, Array]]:
    """All blocks on a batch; every stage works on another microbatch at the same time.

    In iteration t stage s is at turn u = t - s: microbatch u mod M on its visit u // M. A
    microbatch that leaves the last stage comes round to stage 0 and waits there for its next visit,
    or for the end. Turns before the first and after the last are the bubble, (S - 1) / (M R + S -
    1) of all (Huang et al. 2019, GPipe; with R > 1 Narayanan et al. 2021, section 2.2): computed on
    rows that are at hand, and thrown away.

    Args:
      run: runs P blocks, given their parameters, on one microbatch.
      params: of all blocks, stacked on the first axis, which lies in order over the stages.
      context: arrays [B, ...] that every block reads; a stage picks the rows of its microbatch.

    Returns:
      The stream, the same on every stage, and the penalties summed over blocks, each [B].
    """
    stages, repeats = stages_here(), config.pipeline_repeats
    microbatches = config.pipeline_microbatches or stages
    context_MxB = jax.tree.map(lambda c: _cut(c, microbatches), context)
    x_MxBxLxD = constrain(_cut(x_BxLxD, microbatches))
    # A stage's share of [depth] is contiguous. With R > 1 it needs every S-th group of P instead:
    # the weights move between the stages here, once a pass.
    params_SxRxP = _by_stage(
        jax.tree.map(lambda w: w.reshape(repeats, stages, -1, *w.shape[1:]).swapaxes(0, 1), params)
    )

    def visit(params_RxP: Any, stream: Any, turn: Array) -> Any:
        number = jnp.clip(turn // microbatches, 0, repeats - 1)
        params_P = _at(params_RxP, 0 if repeats == 1 else number)
        x_BxLxD, penalties = stream
        x_BxLxD, more = run(params_P, x_BxLxD, _at(context_MxB, turn % microbatches))
        return x_BxLxD, jax.tree.map(jnp.add, penalties, more)

    prevent_cse = not config.scan_layers  # as in blocks.py
    visit = jax.checkpoint(visit, policy=_kept(config.remat), prevent_cse=prevent_cse)
    visits = jax.vmap(visit, spmd_axis_name="stage")

    def iterate(carry: tuple[Any, Any], t: Array) -> tuple[tuple[Any, Any], None]:
        waiting_SxM, stream_S = carry
        left_S = visits(params_SxRxP, stream_S, t - jnp.arange(stages))
        arrived_S = jax.tree.map(lambda y_S: jnp.roll(y_S, 1, axis=0), left_S)
        # Every stage stores what arrives and only stage 0 reads it: nobody asks what another has.
        slot, used = (t - stages + 1) % microbatches, t >= stages - 1

        def store(waiting_SxM: Array, arrived_S: Array) -> Array:
            kept_S = jax.lax.select(used, arrived_S, _at(waiting_SxM, slot, axis=1))
            return jax.lax.dynamic_update_index_in_dim(waiting_SxM, kept_S, slot, axis=1)

        waiting_SxM = _by_stage(jax.tree.map(store, waiting_SxM, arrived_S))
        entering_S = _at(waiting_SxM, (t + 1) % microbatches, axis=1)
        stream_S = _by_stage(jax.tree.map(_first_of, entering_S, arrived_S))
        return (waiting_SxM, stream_S), None

    one = jax.tree.map(lambda a: a[0], (_at(params_SxRxP, 0), x_MxBxLxD, context_MxB))
    _, penalties = jax.eval_shape(run, *one)
    zeros_MxB = jax.tree.map(lambda p: jnp.zeros((microbatches, *p.shape), p.dtype), penalties)
    waiting_SxM = _by_stage(
        jax.tree.map(
            lambda y_M: jnp.broadcast_to(y_M[None], (stages, *y_M.shape)), (x_MxBxLxD, zeros_MxB)
        )
    )
    carry = waiting_SxM, _at(waiting_SxM, 0, axis=1)
    turns = jnp.arange(microbatches * repeats + stages - 1)
    (waiting_SxM, _), _ = jax.lax.scan(iterate, carry, turns, unroll=not config.scan_layers)
    # A sum with zeros, not a slice: the partitioner would gather all stages' arrays to cut one out.
    return jax.tree.map(lambda y: _join(_first_of(y, jnp.zeros_like(y)).sum(axis=0)), waiting_SxM)


def _by_stage(tree: Any) -> Any:
    """The first axis of every array lies over the stages; the others as they were."""

    def place(x: Array) -> Array:
        rest = (PartitionSpec.UNCONSTRAINED,) * (x.ndim - 1)
        return jax.lax.with_sharding_constraint(x, PartitionSpec("stage", *rest))

    return jax.tree.map(place, tree)


def _at(tree: Any, index: Array | int, axis: int = 0) -> Any:
    """Every array at `index` of an axis."""
    pick = jax.lax.dynamic_index_in_dim
    return jax.tree.map(lambda x: pick(x, index, axis, keepdims=False), tree)


def _first_of(x_S: Array, others_S: Array) -> Array:
    """`x_S` on stage 0, `others_S` on the others."""
    first_S = jnp.arange(x_S.shape[0]) == 0
    return jnp.where(first_S.reshape(-1, *(1,) * (x_S.ndim - 1)), x_S, others_S)


def _cut(x_B: Array, microbatches: int) -> Array:
    """[B, ...] -> [M, B/M, ...], taking every M-th row: each device keeps its own rows."""
    return jnp.swapaxes(x_B.reshape(-1, microbatches, *x_B.shape[1:]), 0, 1)


def _join(x_MxB: Array) -> Array:
    """The inverse of `_cut`."""
    return jnp.swapaxes(x_MxB, 0, 1).reshape(-1, *x_MxB.shape[2:])
