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
from scaling.train.compilation import Compiled
from scaling.train.inside import activations
from scaling.train.state import Layout, Parts, TrainState
from scaling.train.step import gradients
from scaling.transforms import transform

Array = jax.Array
KINDS = ("activation", "logits", "gradient", "update")


class Watch:
    """The program of a run's statistics, compiled at the first call.

    The names are "<kind>/<module>": kinds as in `KINDS`, modules as `inside.py` names them.
    """

    def __init__(self, pieces: Parts, config: RunConfig, plan: Layout):
        self._pieces, self._config = pieces, config
        # Plain and unrolled, so that every module is met once and its arrays can be handed out.
        plain = families.unrolled(config.model)
        self._model = transform.build(dataclasses.replace(config, model=plain))
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
        trained_on = pieces.prepared(batch, rng)
        grads, _ = gradients(pieces, pieces_of_batch, state.params, trained_on, hparams, rng)
        params, _, _ = pieces.optimizer.update(
            grads, state.opt_state, state.params, state.step, hparams
        )
        changes = jax.tree.map(jnp.subtract, params, state.params)
        found = activations(self._model, state.params, batch, next(iter(self._stacked), ""))
        found |= {f"gradient/{name}": rms for name, rms in by_module(grads, self._stacked)}
        found |= {f"update/{name}": rms for name, rms in by_module(changes, self._stacked)}
        self._names = tuple(found)
        return jnp.stack(list(found.values()))


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
