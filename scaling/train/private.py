"""Gradients that say little of any one example: each clipped, their sum noised (Abadi et al. 2016,
Deep learning with differential privacy, arXiv 1607.00133, algorithm 1).

Takes the loss and a piece of a batch; gives the sum over its rows of their clipped gradients.
Called by `step.py`; what it is worth is `scaling/costs/privacy.py`'s.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

Batch = dict[str, jax.Array]
_NOISE = 3  # what the step's key is folded with


def clipped(loss: Callable[[Any, Batch], Any], params: Any, piece: Batch, most: float) -> Any:
    """(sum of the rows' gradients, each of the row's mean loss and clipped to the norm `most`; sums
    of the metrics).

    `loss`: of parameters and a batch, (its sum, sums of metrics). As many gradients exist at once
    as the piece has rows.
    """

    def of_row(row: Batch) -> Any:
        one = jax.tree.map(lambda x: x[None], row)
        grads, sums = jax.grad(loss, has_aux=True)(params, one)
        count = jnp.maximum(sums["loss"].count, 1.0)
        grads = jax.tree.map(lambda g: g / count, grads)
        # A norm of 0 is clipped to nothing, not to 0 / 0.
        factor = jnp.minimum(1.0, most / jnp.maximum(optax.tree.norm(grads), 1e-12))
        return jax.tree.map(lambda g: factor * g, grads), sums

    return jax.tree.map(lambda x_B: x_B.sum(axis=0), jax.vmap(of_row)(piece))


def noised(grads: Any, rng: jax.Array, deviation: float) -> Any:
    """Each number of the sum with independent Gaussian noise."""
    leaves, tree = jax.tree.flatten(grads)
    keys = jax.random.split(jax.random.fold_in(rng, _NOISE), len(leaves))
    drawn = [
        leaf + deviation * jax.random.normal(key, leaf.shape, leaf.dtype)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, drawn)
