"""The training step, a pure function, and the one place where it is jitted.

`train_step(state, batch, hparams)` makes one update. `train_steps` makes up to K of them in one
dispatch, over K batches already on the device: for small models the dispatch costs more than the
step. Called by the loop; the packed executor vmaps the same function.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from scaling import optim
from scaling.config import RunConfig
from scaling.devices import sharding, xla_flags
from scaling.models.pipeline import stages_here
from scaling.objectives.objective import Sum
from scaling.optim import subtree
from scaling.train import federated, fingerprints, noise, private
from scaling.train.attack import moved
from scaling.train.state import Layout, Parts, TrainState
from scaling.transforms.beside import pulled

Batch = dict[str, jax.Array]
HParams = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


def gradients(
    pieces: Parts, microbatches: int, params: Any, batch: Batch, hparams: HParams, rng: jax.Array
) -> tuple[Any, dict[str, Sum]]:
    """Gradient of the batch's mean loss, by the parameters that are trained, with the pull of what
    an earlier task left; and the sums behind its metrics.

    With microbatches > 1 the batch is cut into pieces and the gradients of the *sums* are added up
    before the one division by the whole batch's count: equal to the full batch, also when a mask
    leaves the pieces with different counts.
    """
    if pieces.federated is not None:
        clients, steps = pieces.federated
        alone = dataclasses.replace(pieces, federated=None)
        return federated.moved(
            lambda p, rows, key: gradients(alone, 1, p, rows, hparams, key),
            pieces.trained,
            params,
            batch,
            rng,
            clients=clients,
            steps=steps,
            rate=hparams["local_lr"],
        )

    def grad_of_sum(params: Any, piece: Batch, key: jax.Array) -> Any:
        # Where rows have keys of their own, theirs do not depend on the piece that they are in.
        rng_of = rng if pieces.objective.draws else key

        def loss_of(params: Any, piece: Batch) -> Any:
            with moved(piece) as piece:
                return pieces.objective.loss(pieces.model, params, piece, rng_of, hparams)

        if pieces.attack is not None:
            piece = pieces.attack(lambda rows: loss_of(params, rows)[0], piece)

        def loss(trained: Any, piece: Batch) -> Any:
            return loss_of(subtree.put(params, trained), piece)

        if pieces.privacy is not None:
            return private.clipped(loss, pieces.trained(params), piece, pieces.privacy[0])
        grads, sums = jax.grad(loss, has_aux=True)(pieces.trained(params), piece)
        return grads, sums | (noise.of_piece(grads, sums) if pieces.noise else {})

    if microbatches == 1 and stages_here() == 1 and not pieces.noise:
        grads, sums = grad_of_sum(params, batch, rng)
    else:
        grads, sums = _accumulate(grad_of_sum, microbatches, params, batch, rng)
    count: Any = jnp.maximum(sums["loss"].count, 1.0)
    if pieces.privacy is not None:
        grads = private.noised(grads, rng, pieces.privacy[1])
        count = len(next(iter(batch.values())))
    grads = jax.tree.map(lambda g: g / count, grads)
    sums = noise.of_batch(grads, sums) if pieces.noise else sums
    return pulled(grads, params, hparams["ewc_weight"]) if pieces.anchored else grads, sums


def _accumulate(
    grad_of_sum: Callable[..., Any], microbatches: int, params: Any, batch: Batch, rng: jax.Array
) -> Any:
    """The sum of `grad_of_sum` over the pieces of the batch.

    The gradients of the devices along `replica` and `data` meet once, after the last piece, be it
    one of these or of the pipeline: left to itself, the partitioner adds them up after each, over
    the slow links between slices too.
    """

    def accumulate(params: Any, batch: Batch, keys_GxM: jax.Array) -> Any:
        if microbatches == 1:
            return grad_of_sum(params, batch, keys_GxM[0, 0])
        pieces_MxB = jax.tree.map(lambda x: _cut(x, microbatches), batch)

        def body(carry: Any, piece: tuple[Batch, jax.Array]) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, carry, grad_of_sum(params, *piece)), None

        keys_M = keys_GxM[0]
        shapes = jax.eval_shape(
            grad_of_sum, params, jax.tree.map(lambda x: x[0], pieces_MxB), keys_M[0]
        )
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        return jax.lax.scan(body, zeros, (pieces_MxB, keys_M))[0]

    axes, groups = sharding.groups()
    keys_GxM = jax.random.split(rng, (groups, microbatches))
    if groups == 1:
        return accumulate(params, batch, keys_GxM)

    def of_group(params: Any, batch: Batch, keys_1xM: jax.Array) -> Any:
        with sharding.within(axes):
            return jax.lax.psum(accumulate(params, batch, keys_1xM), axes)

    whole, rows = PartitionSpec(), PartitionSpec(axes)
    return jax.shard_map(
        of_group,
        in_specs=(whole, rows, rows),
        out_specs=whole,
        axis_names=set(axes),
        check_vma=False,
    )(params, batch, keys_GxM)


def _cut(x_B: jax.Array, microbatches: int) -> jax.Array:
    """[B, ...] -> [M, B/M, ...], taking every M-th row: each device keeps its own rows."""
    return jnp.swapaxes(x_B.reshape(-1, microbatches, *x_B.shape[1:]), 0, 1)


def train_step(
    pieces: Parts,
    microbatches: int,
    state: TrainState,
    batch: Batch,
    hparams: HParams,
    fingerprint_every: int | None = None,
) -> tuple[TrainState, Metrics]:
    """One update. Metrics are of the state before it, as the gradient is; but "hash", one uint32 a
    tensor every so many steps (`fingerprints.names` names them), and what the transform measures
    are of the state after it.
    """
    rng = jax.random.fold_in(jax.random.key(hparams["seed"]), state.step)
    trained_on = pieces.prepared(batch, rng)
    grads, sums = gradients(pieces, microbatches, state.params, trained_on, hparams, rng)
    params, opt_state, info = pieces.optimizer.update(
        grads, state.opt_state, state.params, state.step, hparams
    )
    step, stored = state.step + 1, pieces.stored
    if stored is not None and stored.updated is not None:
        params = stored.updated(params, step, hparams)
    read = state.ema is not None or fingerprint_every is not None
    moments = optim.on_device(opt_state) if read and pieces.optimizer.offload else opt_state
    ema = None
    if state.ema is not None:
        ema = pieces.optimizer.average(state.ema, params, moments, hparams)
    metrics = {name: s.mean for name, s in sums.items()} | info
    if stored is not None:
        metrics |= stored.measured(params)
    if fingerprint_every is not None:
        metrics["hash"] = fingerprints.every(fingerprint_every, step, params, moments, ema, batch)
    return TrainState(step, params, opt_state, ema), metrics


def train_steps(
    pieces: Parts,
    microbatches: int,
    state: TrainState,
    batches_K: Batch,
    count: jax.Array,
    hparams: HParams,
    fingerprint_every: int | None = None,
) -> tuple[TrainState, Metrics]:
    """`count` <= K updates on the first `count` of K stacked batches; metrics are [K], rest zero.

    The trip count is traced: a shorter last call runs the same program, so the numbers of a step do
    not depend on how many others its call held.
    """

    # Jitted so that it is traced once, for its shapes and for the loop; most of a start is tracing.
    step = jax.jit(
        functools.partial(train_step, pieces, microbatches, fingerprint_every=fingerprint_every),
        inline=True,
    )

    def one(state: TrainState, i: jax.Array | int) -> tuple[TrainState, Metrics]:
        batch = jax.tree.map(
            lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), batches_K
        )
        return step(state, batch, hparams)

    length = jax.tree.leaves(batches_K)[0].shape[0]
    _, shapes = jax.eval_shape(lambda s: one(s, 0), state)
    zeros = jax.tree.map(lambda s: jnp.zeros((length, *s.shape), s.dtype), shapes)

    def body(i: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
        state, metrics = one(carry[0], i)
        return state, jax.tree.map(lambda all_, m: all_.at[i].set(m), carry[1], metrics)

    return jax.lax.fori_loop(0, count, body, (state, zeros))


def compile_steps(pieces: Parts, config: RunConfig, plan: Layout) -> jax.stages.Wrapped:
    """`(state, batches_K, count, hparams) -> (state, metrics_K)`, sharded, the state donated.

    K is config.train.steps_per_call; K = 1 compiles the plain step.
    """
    stacked, everywhere = sharding.stacked_batch_sharding(plan.mesh), sharding.replicated(plan.mesh)
    single = config.train.steps_per_call == 1

    def call(
        state: TrainState, batches_K: Batch, count: jax.Array, hparams: HParams
    ) -> tuple[TrainState, Metrics]:
        microbatches, every = config.train.microbatches, config.train.fingerprint_every
        if not single:
            return train_steps(pieces, microbatches, state, batches_K, count, hparams, every)
        batch = jax.tree.map(lambda x: x[0], batches_K)
        state, metrics = train_step(pieces, microbatches, state, batch, hparams, every)
        return state, jax.tree.map(lambda m: m[None], metrics)

    return jax.jit(
        call,
        in_shardings=(plan.shardings, stacked, everywhere, everywhere),
        out_shardings=(plan.shardings, everywhere),
        donate_argnums=0,
        compiler_options=xla_flags.options(
            config.train.xla_flags, plan.mesh.devices.flat[0].platform
        ),
    )
