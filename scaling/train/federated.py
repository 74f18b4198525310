"""Rounds of clients that train by themselves and are averaged (McMahan et al. 2017, arXiv
1602.05629, algorithm 1).

Takes a batch that holds the rows of every client of a round; gives what the optimizer takes for a
gradient (Reddi et al. 2021, arXiv 2003.00295): how far the mean of the clients has come, over their
rate. With one local step that is the batch's gradient; with plain gradient descent at the clients'
rate the run's parameters become the mean of theirs. Called by `step.py`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from scaling.objectives.objective import Sum
from scaling.optim import subtree

Batch = dict[str, jax.Array]


def moved(
    gradient: Callable[[Any, Batch, jax.Array], tuple[Any, dict[str, Sum]]],
    trained: Callable[[Any], Any],
    params: Any,
    batch: Batch,
    rng: jax.Array,
    *,
    clients: int,
    steps: int,
    rate: jax.Array,
) -> tuple[Any, dict[str, Sum]]:
    """(The mean over clients of (parameters before - after) / rate, of what is trained; sums behind
    the metrics, of the first local step of all, so of the parameters that they were given).

    Args:
      gradient: (parameters, rows, key) -> gradient of their mean loss, sums.
      trained: parameters -> the part that is trained.
      params: as stored. As many copies of what is trained exist at once as there are clients.
      batch: arrays [clients * steps * rows, ...], one client after the other.
    """
    rows_CxK = jax.tree.map(lambda x: x.reshape(clients, steps, -1, *x.shape[1:]), batch)
    keys_CxK = jax.random.split(rng, (clients, steps))
    start = trained(params)

    def of_client(rows_K: Batch, keys_K: jax.Array) -> Any:
        def step(own: Any, given: tuple[Batch, jax.Array]) -> Any:
            grads, sums = gradient(subtree.put(params, own), *given)
            return jax.tree.map(lambda p, g: p - rate * g, own, grads), sums

        end, sums_K = jax.lax.scan(step, start, (rows_K, keys_K))
        return end, jax.tree.map(lambda x: x[0], sums_K)

    ends_C, sums_C = jax.vmap(of_client)(rows_CxK, keys_CxK)
    way = jax.tree.map(lambda p, q_C: (p - jnp.mean(q_C, axis=0)) / rate, start, ends_C)
    return way, jax.tree.map(lambda x_C: jnp.sum(x_C, axis=0), sums_C)
