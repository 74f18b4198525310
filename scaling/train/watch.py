"""What goes on inside a model while it trains: root mean squares by module, every so many steps.

Takes the state before an update and its batch; gives the RMS of every module's activations and
attention logits, and of the gradients and updates of its parameters. It is a program of its own
beside the step (`step.py`), which knows nothing of it: a run that is watched trains to the bit as
one that is not, and a watched step costs about two. Called by the loop every `train.watch_every`
steps.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from scaling import families
from scaling.config import RunConfig
from scaling.devices import sharding
from scaling.models.attention import scaled
from scaling.models.flash import seen
from scaling.models.observed import observing
from scaling.train.compilation import Compiled
from scaling.train.state import Layout, Parts, TrainState
from scaling.train.step import gradients

Array = jax.Array
KINDS = ("activation", "logits", "gradient", "update")
_QUERIES = 256  # whose scores exist at a time


class Watch:
    """The program of a run's statistics, compiled at the first call.

    The names are "<kind>/<module>": kinds as in `KINDS`; modules are "embedding", "final_norm",
    "blocks.3" (the stream after block 3) and its parts, "blocks.3.attention".
    """

    def __init__(self, pieces: Parts, config: RunConfig, plan: Layout):
        self._pieces, self._config = pieces, config
        # Plain and unrolled, so that every module is met once and its arrays can be handed out.
        plain = dataclasses.replace(config.model, scan_layers=False, remat="none")
        self._model = families.build(plain)
        self._stacked = _stacked(plan)
        self._names: tuple[str, ...] = ()
        everywhere = sharding.replicated(plan.mesh)
        rows = sharding.stacked_batch_sharding(plan.mesh)
        jitted = jax.jit(
            self._look,
            in_shardings=(plan.shardings, rows, everywhere),
            out_shardings=everywhere,
        )
        self._program = Compiled(jitted)

    def __call__(self, state: TrainState, batches_K: Any, hparams: Any) -> Array:
        """Of the first of the K batches, before its update: float32, in the order of the names."""
        return self._program(state, batches_K, hparams)

    @property
    def seconds(self) -> float:
        """That the program took to compile."""
        return self._program.seconds

    def named(self, values: Sequence[float]) -> dict[str, float]:
        """What a call gave, fetched, as it stands in a line of metrics."""
        return dict(zip(self._names, map(float, values), strict=True))

    def _look(self, state: TrainState, batches_K: Any, hparams: Any) -> Array:
        batch = jax.tree.map(lambda x: x[0], batches_K)
        rng = jax.random.fold_in(jax.random.key(hparams["seed"]), state.step)
        pieces, pieces_of_batch = self._pieces, self._config.train.microbatches
        grads, _ = gradients(pieces, pieces_of_batch, state.params, batch, hparams, rng)
        params, _, _ = pieces.optimizer.update(
            grads, state.opt_state, state.params, state.step, hparams
        )
        changes = jax.tree.map(jnp.subtract, params, state.params)
        found = activations(self._model, state.params, batch, next(iter(self._stacked), ""))
        found |= {f"gradient/{name}": rms for name, rms in by_module(grads, self._stacked)}
        found |= {f"update/{name}": rms for name, rms in by_module(changes, self._stacked)}
        self._names = tuple(found)
        return jnp.stack(list(found.values()))


def activations(model: nn.Module, params: Any, batch: Any, stack: str) -> dict[str, Array]:
    """RMS of what the modules of an unrolled model give, and of the attention logits, by name.

    `stack`: what the blocks are called, whose parameters lie stacked in `params`.
    """
    look = _Look(stack)
    with nn.intercept_methods(look.intercept), observing(look.scores):
        model.apply({"params": params}, batch)
    return look.found


class _Look:
    """Meets every call of a module in the model and in its blocks, which are applied within it."""

    def __init__(self, stack: str):
        self._stack, self._applied = stack, 0
        self._at: list[str] = []  # the model, the block
        self.found: dict[str, Array] = {}

    def intercept(self, call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        path = context.module.path
        if context.method_name != "__call__" or len(path) > 1:
            return call(*args, **kwargs)
        if path:
            return self._kept(".".join(filter(None, (self._at[-1], *path))), call(*args, **kwargs))
        if not self._at:
            name = ""
        else:
            name = f"{self._stack}.{self._applied}"
            if not self._applied:
                self._kept("embedding", args[0])
            self._applied += 1
        self._at.append(name)
        try:
            given = call(*args, **kwargs)
        finally:
            self._at.pop()
        return self._kept(name, given) if name else given

    def _kept(self, name: str, given: Any) -> Any:
        """What a module gives: of several results the first is its output."""
        x = jax.tree.leaves(given)[0].astype(jnp.float32)
        self.found[f"activation/{name}"] = jnp.sqrt(jnp.mean(jnp.square(x)))
        return given

    def scores(self, query: Array, key: Array, segments: Array | None, window: int | None) -> None:
        """Queries and keys of a block's attention, as they meet."""
        self.found[f"logits/{self._at[-1]}.attention"] = rms_of_logits(query, key, segments, window)


def rms_of_logits(
    q_BxHxLxK: Array, k_BxGxLxK: Array, segments_BxL: Array | None, window: int | None
) -> Array:
    """Of every query with every key that it sees, before the softmax; a scalar, float32."""
    batch, heads, length, head_dim = q_BxHxLxK.shape
    groups, height = k_BxGxLxK.shape[1], min(_QUERIES, length)
    rows = -(-length // height)
    more = rows * height - length
    q = scaled(q_BxHxLxK).reshape(batch, groups, heads // groups, length, head_dim)
    q = jnp.pad(q, [(0, 0)] * 3 + [(0, more), (0, 0)])
    k_segments = segments_BxL
    q_segments = None if segments_BxL is None else jnp.pad(segments_BxL, [(0, 0), (0, more)])

    def of_rows(first: Array) -> tuple[Array, Array]:
        piece = jax.lax.dynamic_slice_in_dim(q, first, height, axis=3)
        scores = jnp.einsum(
            "bghlk,bgsk->bghls", piece, k_BxGxLxK, preferred_element_type=jnp.float32
        )
        places = first + jnp.arange(height)
        distance_LxS = places[:, None] - jnp.arange(length)[None]
        theirs = q_segments
        if theirs is not None:
            theirs = jax.lax.dynamic_slice_in_dim(theirs, first, height, axis=1)
        real_L = (places < length)[None, None, None, :, None]
        visible = seen(distance_LxS, theirs, k_segments, window) & real_L
        squares = jnp.sum(jnp.where(visible, jnp.square(scores), 0.0))
        # All heads see as much. A whole number: on CPUs, jaxlib 0.10.2 now and then loses a part of
        # a sum of floats that are made of no array, as those of a mask are.
        count = jnp.sum(jnp.broadcast_to(visible, (batch, 1, 1, height, length)), dtype=jnp.int32)
        return squares, count.astype(jnp.float32) * heads

    squares, counts = jax.lax.map(of_rows, height * jnp.arange(rows))
    return jnp.sqrt(squares.sum() / counts.sum())


def by_module(tree: Any, stacked: frozenset[str]) -> Iterator[tuple[str, Array]]:
    """RMS of a tree like the parameters, by module: the parts of every block, and the rest of the
    model by its first names. `stacked`: the first names below which arrays lie stacked by layers.
    """
    sums: dict[str, list[Array]] = {}
    sizes: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        first, *rest = (str(entry.key) for entry in path)
        squares = jnp.square(leaf.astype(jnp.float32))
        if first in stacked:
            of_layers = squares.sum(axis=tuple(range(1, leaf.ndim)))
            parts = {f"{first}.{i}.{rest[0]}": of_layers[i] for i in range(leaf.shape[0])}
        else:
            parts = {first: squares.sum()}
        for name, total in parts.items():
            sums.setdefault(name, []).append(total)
            sizes[name] = sizes.get(name, 0) + math.prod(leaf.shape) // len(parts)
    for name, totals in sums.items():
        yield name, jnp.sqrt(sum(totals[1:], totals[0]) / sizes[name])


def _stacked(plan: Layout) -> frozenset[str]:
    """First names of the parameters that lie stacked on an axis of layers."""
    axes = nn.get_partition_spec(plan.boxed.params)
    leaves = jax.tree_util.tree_leaves_with_path(
        axes, is_leaf=lambda x: isinstance(x, PartitionSpec)
    )
    return frozenset(str(path[0].key) for path, names in leaves if tuple(names)[:1] == ("layers",))
