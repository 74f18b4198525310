"""What a run costs: parameters from shapes, FLOPs from the program.

The counts of `ledger` work for every model family, without a formula of its own; the closed
formulas of families are held against them by tests. Called by `scaling/check` and by the step.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from scaling import data, optim
from scaling.config import RunConfig, choices
from scaling.costs.ledger import Ledger, Scopes, ledger, scopes, total
from scaling.devices import sharding
from scaling.objectives.objective import build as build_objective
from scaling.optim import subtree
from scaling.transforms import transform


def batch_shapes(config: RunConfig) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a training batch of a resolved run."""
    shapes = data.batch_shapes(config)
    return {name: jax.ShapeDtypeStruct(*of_one) for name, of_one in shapes.items()}


def params_shapes(config: RunConfig) -> Any:
    """Shapes of the parameters as stored, as nested dicts of `jax.ShapeDtypeStruct`; allocates
    nothing.
    """
    model, batch = transform.build(config), batch_shapes(config)
    # The key is made while tracing: the context's mesh may be of devices that are not here.
    boxed = jax.eval_shape(lambda batch: model.init(jax.random.key(0), batch), batch)
    return sharding.unbox(boxed)["params"]


def train_ledger(config: RunConfig) -> Ledger:
    """Counts of loss and gradient over one training batch, one microbatch after another.
    `optimizer_ledger` has the update's.

    Inside `sharding.context` it counts what the whole mesh executes: with stages, the blocks also
    compute the pipeline's bubble (`meshes.pipeline_overhead`); with mesh.seq, every device is
    counted as the one whose queries see most keys.
    """
    return total(_gradient_scopes(config).values())


PASSES = ("forward", "backward", "remat")


def parts_ledger(config: RunConfig) -> dict[str, dict[str, Ledger]]:
    """`train_ledger` cut by part of the model, and by pass: part -> pass -> counts.

    Parts are the modules' own scopes, two deep ("attention/query", "stem"): what is done in one and
    in none of those inside it. "other" is outside of every named module. Passes: `PASSES`; remat is
    what the backward pass computes once more.
    """
    parts: dict[str, dict[str, Ledger]] = {}
    for scope, count in _gradient_scopes(config).items():
        passes = parts.setdefault(part_of(scope), dict.fromkeys(PASSES, Ledger()))
        passes[_pass(scope)] += count
    return parts


def _gradient_scopes(config: RunConfig) -> Scopes:
    """Of one microbatch, as often as there are: in how many pieces the loss takes its logits, and
    so whether the backward pass computes them again, goes by the rows that are there at a time.
    """
    model = choices.family(config.model).readable(config.model)  # a kernel cannot be read
    times = config.train.microbatches
    train = dataclasses.replace(config.train, batch_size=config.train.batch_size // times)
    piece = dataclasses.replace(config, model=model, train=train)
    counts = scopes(gradient(piece), params_shapes(piece), batch_shapes(piece))
    return {scope: count * times for scope, count in counts.items()}


def _pass(scope: str) -> str:
    if "rematted_computation" in scope:
        return "remat"
    return "backward" if "transpose(" in scope else "forward"


def part_of(scope: str) -> str:
    """The part of the model that a scope of `ledger.scopes` lies in: what its modules and
    `jax.named_scope`s are called, the two outermost. Not part of it are JAX's transformations,
    modules without a name of their own, which have their class's ("Block"), and einsums.
    """
    bare = re.sub(r"\w+\(|\)", "", scope)
    names = [n for n in bare.split("/") if n.isidentifier() and n[0].islower()]
    return "/".join([n for n in names if n != "rematted_computation"][:2]) or "other"


def optimizer_ledger(config: RunConfig) -> Ledger:
    """Counts of the optimizer's update, clipping included: some twenty FLOPs a parameter."""
    players, params = choices.objective(config.objective).players, params_shapes(config)
    optimizer = optim.build(config.optim, players, transform.parametrization(config))
    hparams = optim.hparams_shapes(config)
    trained = transform.trained(config)(params)
    state = jax.eval_shape(optimizer.init, trained)
    step = jax.ShapeDtypeStruct((), jnp.int32)
    return ledger(optimizer.update, trained, state, params, step, hparams)


def params_trained(config: RunConfig) -> int:
    """How many numbers are trained of a resolved run: fewer than its parameters, or others."""
    params = params_shapes(config)
    return sum(leaf.size for leaf in jax.tree.leaves(transform.trained(config)(params)))


def gradient(config: RunConfig) -> Callable[[Any, Any], Any]:
    """(params, batch) -> ((loss, sums), gradients of what is trained) of a resolved run, the batch
    in one piece.
    """
    model, objective = transform.build(config), build_objective(config.objective, config.distill)
    trained = transform.trained(config)

    def of(params: Any, batch: Any) -> Any:
        def loss(part: Any) -> Any:
            return objective.loss(model, subtree.put(params, part), batch, jax.random.key(0))

        return jax.value_and_grad(loss, has_aux=True)(trained(params))

    return of
