"""The loss, the gradients and the update of an instant, as functions of its state.

Called by the tables, the comparisons and the hunt of this room; it is `train/step.py`'s step, with
the outputs of the modules beside it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from scaling.debug.instant import Instant, mesh_of_one
from scaling.debug.modules import Seen, outputs
from scaling.train.state import TrainState, layout
from scaling.train.step import train_step

Array = jax.Array


def loss_of(instant: Instant) -> Callable[..., tuple[Array, Any]]:
    """`(params, batch) -> (loss, sums)`: what is differentiated, the mean over what counts in the
    batch (tokens, images), penalties included; and the sums behind the metrics.
    """
    pieces, hparams, key = instant.pieces, instant.hparams, instant.key

    def loss(params: Any, batch: Mapping[str, Array]) -> tuple[Array, Any]:
        trained_on = pieces.prepared(batch, key)
        total, sums = pieces.objective.loss(pieces.model, params, trained_on, key, hparams)
        return total / jnp.maximum(sums["loss"].count, 1.0), sums

    return loss


def update_of(instant: Instant) -> Callable[..., Any]:
    """`(state, batch) -> (state, metrics)`: one update."""
    pieces, hparams = instant.pieces, instant.hparams

    def update(state: TrainState, batch: dict[str, Array]) -> Any:
        return train_step(pieces, 1, state, batch, hparams)

    return update


@flax.struct.dataclass
class Looked:
    """One step with its modules laid open."""

    metrics: dict[str, Array]
    outputs: Seen
    of_outputs: Seen  # gradients of the loss at the outputs
    gradient: Any  # of the parameters
    change: Any  # of the parameters


def look(instant: Instant) -> Callable[[TrainState, Mapping[str, Array]], Looked]:
    """`(state, batch) -> Looked`."""
    loss, optimizer, hparams = loss_of(instant), instant.pieces.optimizer, instant.hparams

    def compute(state: TrainState, batch: Mapping[str, Array]) -> Looked:
        _, shapes = jax.eval_shape(outputs(loss), state.params, batch)
        probes = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

        def probed(params: Any, probes: Seen) -> Any:
            (value, sums), seen = outputs(loss, probes)(params, batch)
            return value, (sums, seen)

        differentiate = jax.grad(probed, argnums=(0, 1), has_aux=True)
        (gradient, of_outputs), (sums, seen) = differentiate(state.params, probes)
        after, _, info = optimizer.update(
            instant.pieces.trained(gradient), state.opt_state, state.params, state.step, hparams
        )
        metrics = {name: s.mean for name, s in sums.items()} | info
        change = jax.tree.map(jnp.subtract, after, state.params)
        return Looked(metrics, seen, of_outputs, gradient, change)

    return compute


def by_name(instant: Instant) -> Callable[[Any], dict[str, Array]]:
    """A function from a tree like the parameters to dotted names; what is stacked over layers is
    one entry a layer.
    """
    boxed = layout(instant.pieces, instant.config, mesh_of_one()).boxed.params
    axes = nn.get_partition_spec(boxed)
    of_leaf = jax.tree.leaves(axes, is_leaf=lambda x: isinstance(x, PartitionSpec))

    def split(params: Any) -> dict[str, Array]:
        named: dict[str, Array] = {}
        leaves = jax.tree_util.tree_leaves_with_path(params)
        for (path, leaf), names in zip(leaves, of_leaf, strict=True):
            first, *rest = [str(entry.key) for entry in path]
            if tuple(names)[:1] == ("layers",):
                for i in range(leaf.shape[0]):
                    named[".".join((first, str(i), *rest))] = leaf[i]
            else:
                named[".".join((first, *rest))] = leaf
        return named

    return split
