"""What a run that begins with another one holds on to (elastic weight consolidation): that one's
parameters, and how much its predictions depend on each.

Takes the config of both and the parameters; gives the anchor that lies beside the new run's
(`transforms/beside.py`). Called once a run, by `begins.py`; the anchor is part of the state.

The diagonal of the Fisher information is estimated from gradients of whole batches whose labels are
drawn from the model's own predictions. Such a gradient is zero in the mean, and predictions are
drawn independently: so the square of the gradient of their sum is, in the mean, the sum of their
squares, and no example's gradient is needed by itself (as in Liu et al. 2023, Sophia, arXiv
2305.14342, section 2.3). That holds for any model, on any mesh, and costs what training steps cost.
With the true labels it would not hold, and what a model knows by heart would weigh nothing.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from scaling import data
from scaling.config import DistillConfig, RunConfig, choices, programs
from scaling.devices import sharding
from scaling.objectives.predictions import own_surprise
from scaling.optim import subtree
from scaling.train.placement import host_rows, place_rows
from scaling.transforms import transform

_DRAWS = 4  # what the key of the drawn labels is folded with


def anchor(
    config: RunConfig, before: RunConfig, params: Any, held: Any, mesh: jax.sharding.Mesh
) -> dict[str, Any]:
    """{"at": the trained ones of the parameters, "fisher": their information}.

    Args:
      config: of the run.
      before: of the one that it begins with, on whose training data the information is estimated.
      params: what the run begins with, as stored.
      held: the information that that one held on to itself; None: it held on to nothing.
    """
    at = transform.trained(config)(params)
    found = fisher(config, before, params, mesh)
    if held is not None:
        # One anchor however many tasks there were (Schwarz et al. 2018, arXiv 1805.06370, eq. 9).
        more = subtree.like(held, found)
        found = jax.tree.map(lambda new, old: new + config.ewc.decay * old, found, more)
    # Copies: what is donated together must not share buffers.
    return {"at": jax.tree.map(jnp.copy, at), "fisher": found}


def fisher(config: RunConfig, before: RunConfig, params: Any, mesh: jax.sharding.Mesh) -> Any:
    """Diagonal of the Fisher information of a prediction of the run's model at these parameters, on
    the first `ewc.batches` batches of another run: a tree of those that are trained.
    """
    rows = config.train.batch_size
    of = dataclasses.replace(before, train=dataclasses.replace(before.train, batch_size=rows))
    batches, mine = data.train_batches(of), host_rows(rows, mesh)
    soft = choices.objective(config.objective).soft
    parts: Any = config.model, programs.any_examples(config), config.transform, soft
    step = _squares(*parts)
    key = jax.random.fold_in(jax.random.key(config.seed), _DRAWS)
    total, count = jax.tree.map(jnp.zeros_like, transform.trained(config)(params)), jnp.float32(0)
    where = sharding.batch_sharding(mesh)
    for number in range(config.ewc.batches):
        batch = place_rows(batches.batch(number, mine), where, mine, rows, axis=0)
        total, count = step(params, total, count, batch, jax.random.fold_in(key, number))
    return jax.tree.map(lambda sum_: sum_ / jnp.maximum(count, 1.0), total)


@functools.lru_cache(maxsize=8)  # members of a group share it
def _squares(model: Any, data: Any, transformed: Any, soft: str) -> Any:
    """(params, sums so far, predictions so far, batch, key) -> both with those of the batch."""
    plain = RunConfig(model=model, data=data, transform=transformed, distill=DistillConfig())
    built, trained = transform.build(plain), transform.trained(plain)

    def step(params: Any, total: Any, count: Any, batch: Any, key: jax.Array) -> Any:
        def surprise(part: Any) -> jax.Array:
            outputs = built.apply({"params": subtree.put(params, part)}, batch)
            return own_surprise(outputs, batch[soft], key)

        grads = jax.grad(surprise)(trained(params))
        total = jax.tree.map(lambda sum_, g: sum_ + g.astype(jnp.float32) ** 2, total, grads)
        return total, count + batch[soft].astype(jnp.float32).sum()

    return jax.jit(step)
