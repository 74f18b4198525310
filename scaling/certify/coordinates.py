"""The coordinate check: how large everything in a model is over the first steps of its training.

Takes a resolved run; trains it for some steps in this process and gives the sizes of activations,
of the model's output, of initial parameters and of updates, by name. What a parametrization
promises is that none of them follows the width (Yang et al. 2022, arXiv 2203.03466, appendix D.1)
or the depth. Called by `scaling/commands/certifying.py`; `slopes.py` says how they grow.

What is drawn at random at an end adds up without a sign, and what training adds there with one: of
an output over the channels, or of the stream over the blocks, the first is 1 / sqrt(size) of the
second, at any parametrization that keeps the second. So the limit has none of it, and small models
have much: their first steps undo it, and everything that is measured meanwhile falls. `quiet` lets
these ends begin at zero (arXiv 2203.03466, appendix D.2, advises that for training, too), so that
what is fitted is how sizes grow and not how this beginning is forgotten.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling import data, families, optim
from scaling.config import LENGTHS, RunConfig, choices, override, programs
from scaling.devices import sharding
from scaling.models import spectral
from scaling.optim import Parametrization, subtree
from scaling.optim.parametrization import ALPHA
from scaling.optim.roles import Leaf
from scaling.studies.transfer import Axis
from scaling.train import state as state_lib
from scaling.train.inside import activations, rms
from scaling.train.state import Parts
from scaling.train.step import train_step
from scaling.transforms import transform

Array = jax.Array
# change: of an activation or output since step 0, on one batch; of what a branch adds, times what
# it is divided by with the depth. size: of an activation. initial: of a parameter as drawn, over
# the law of its role. update: of one step of a parameter, as what it does to its input.
KINDS = ("change", "size", "initial", "update")
_POWER_STEPS = 8  # of the power method, for spectral norms
_ROWS = 4  # of the batch that is looked at


@dataclass(frozen=True)
class Sizes:
    """Of one model, one seed: "<kind>/<name>" -> float64 [steps + 1], NaN where there is none."""

    width: int
    depth: int
    seed: int
    values: Mapping[str, np.ndarray]
    branches: tuple[str, ...] = ()  # names of those of a block, in their order


def prepared(config: RunConfig, steps: int) -> RunConfig:
    """The run as the check trains it: its learning rate from the first step on, and no longer than
    is looked at.
    """
    usual = type(config.optim)()
    return override(
        config,
        {
            **{f"train.{length}": None for length in LENGTHS},
            "train.steps": steps,
            "optim.schedule": "constant",
            "optim.final_lr_fraction": usual.final_lr_fraction,
            "optim.decay_fraction": usual.decay_fraction,
            "optim.warmup_steps": 0,
            "optim.warmup_fraction": None,
        },
    )


def ends(scale: Parametrization, axis: Axis) -> frozenset[str]:
    """Paths of what ends a sum over the axis: over channels the output, or the gain that has its
    factor; over blocks the branches.
    """
    return frozenset(
        leaf.path
        for leaf in scale.leaves
        if (
            "branches" in leaf.place
            if axis == "depth"
            else leaf.role == "output" or "tied" in leaf.place
        )
    )


def measure(
    config: RunConfig,
    steps: int,
    wrong: Callable[[Parametrization], Parametrization] | None = None,
    quiet: Axis | None = None,
) -> Callable[[int], Sizes]:
    """A function from a seed to the sizes over the first steps of a resolved run.

    `wrong` puts other multipliers in the place of the parametrization's: what the check must find.
    `quiet`: the `ends` of this axis begin at zero; what is said of "initial" is as drawn.
    """
    pieces = _pieces(config, wrong)
    described = pieces.parametrization or transform.described(config)
    silent = ends(described, quiet) if quiet else frozenset()
    plain = dataclasses.replace(config, model=families.unrolled(config.model))
    look = transform.scaled(plain, described)
    alpha, depth = ALPHA[config.optim.parametrization], config.model.depth
    branches = [leaf.path.split("/") for leaf in described.leaves if "branches" in leaf.place]
    closing = {name for path in branches for name in path}
    step = jax.jit(functools.partial(train_step, pieces, 1))
    start = jax.jit(lambda seed: sharding.unbox(state_lib.create(pieces, config, seed, 1.0)))
    # A norm that has the output's factor: the output itself says what there is to say.
    tied = {leaf.path.split("/")[0] for leaf in described.leaves if "tied" in leaf.place}
    stacked = (leaf.path.split("/")[0] for leaf in described.leaves if "layers" in leaf.axes)
    stack = next(stacked, "")

    @jax.jit
    def inside(params: Any, batch: Any) -> dict[str, Array]:
        found = activations(look, params, batch, stack, lambda x: x.astype(jnp.float32))
        outputs = families.predictions(look.apply({"params": params}, batch))
        return found | {f"output/{name}": x for name, x in outputs.items()}

    @jax.jit
    def compare(now: dict[str, Array], first: dict[str, Array]) -> dict[str, Array]:
        found = {f"size/{_bare(name)}": rms(x) for name, x in now.items()}
        for name, x in now.items():
            if x.ndim and _bare(name) not in tied:
                branch = alpha if name.rpartition(".")[2] in closing else 0.0
                found[f"change/{_bare(name)}"] = rms(x - first[name]) * depth**branch
        return found

    @jax.jit
    def update(params: Any, before: Any) -> dict[str, Array]:
        moved = jax.tree.map(jnp.subtract, params, before)
        found = _by_leaf(described, "update", natural, moved)
        # So many blocks, each of which moves by so much less, add up to as much.
        blocks = [f"update/{leaf.path}" for leaf in described.leaves if "blocks" in leaf.place]
        more = depth ** (1 - alpha) if alpha else 1.0
        return found | {name: more * found[name] for name in blocks}

    @jax.jit
    def initial(params: Any) -> dict[str, Array]:
        return _by_leaf(described, "initial", _drawn, params)

    def of_seed(seed: int) -> Sizes:
        run = override(config, {"seed": seed})
        batches, hparams = data.train_batches(run), programs.hparams(run)
        probe = jax.tree.map(lambda x: x[:_ROWS], batches.batch(steps))
        state = start(np.uint32(seed))
        drawn = initial(state.params)
        state = state.replace(params=_without(silent, state.params))
        first = inside(state.params, probe)
        rows = [jax.device_get(compare(first, first) | drawn)]
        for i in range(steps):
            before = state.params
            state, _ = step(state, batches.batch(i), hparams)
            found = compare(inside(state.params, probe), first) | update(state.params, before)
            rows.append(jax.device_get(found))
        names = {name for row in rows for name in row}
        values = {
            name: np.array([float(row.get(name, math.nan)) for row in rows])
            for name in sorted(names)
        }
        model = config.model
        return Sizes(model.width, model.depth, seed, values, _branches(stack, branches))

    return of_seed


def _branches(stack: str, closing: list[list[str]]) -> tuple[str, ...]:
    """Names within a block of what the paths of the branches' last matrices are in."""
    found = [path[1] for path in closing if path[0] == stack and len(path) > 1]
    return tuple(dict.fromkeys(found))


def _pieces(config: RunConfig, wrong: Callable[[Parametrization], Parametrization] | None) -> Parts:
    pieces = state_lib.parts(config)
    if wrong is None:
        return pieces
    scale = wrong(transform.described(config))
    players = choices.objective(config.objective).players
    return dataclasses.replace(
        pieces,
        model=transform.scaled(config, scale),
        optimizer=optim.build(config.optim, players, scale),
        parametrization=scale,
    )


def _without(silent: frozenset[str], params: Any) -> Any:
    """Parameters, of which some are zero."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.zeros_like(x) if subtree.name(path) in silent else x, params
    )


def _by_leaf(
    scale: Parametrization, kind: str, size: Callable[[Leaf, Array], Array], tree: Any
) -> dict[str, Array]:
    """A size of every leaf: as it is stored, and of outputs as they are used. The other factors are
    not of the leaf that has them, but of logits, of a branch, or of an output behind it.
    """
    stored = dict(subtree.leaves(tree))
    used = dict(subtree.leaves(scale.applied("forward", tree)))
    return {
        f"{kind}/{leaf.path}": size(leaf, (used if leaf.role == "output" else stored)[leaf.path])
        for leaf in scale.leaves
    }


def _bare(name: str) -> str:
    return name.removeprefix("activation/")


def natural(leaf: Leaf, x: Array) -> Array:
    """The size of a change as what it does to its input of entries of order 1: of a matrix its
    spectral norm over sqrt(fan-out / fan-in), of a table or a vector its RMS.
    """
    if leaf.role == "vector" or (leaf.looked_up and leaf.role == "input"):
        return rms(x)
    stack = [i for i in range(x.ndim) if i not in (*leaf.ins, *leaf.outs)]
    matrices = jnp.transpose(x, (*stack, *leaf.ins, *leaf.outs))
    matrices = matrices.reshape(-1, leaf.fan_in, leaf.fan_out)
    norms = jax.lax.map(lambda w: spectral.largest(w, _POWER_STEPS), matrices)
    return rms(norms) / math.sqrt(leaf.fan_out / leaf.fan_in)


def _drawn(leaf: Leaf, x: Array) -> Array:
    """The RMS of a parameter over the law of its role: 1 / sqrt(fan-in) if hidden, 1 / fan-in of an
    output as it is used, a constant of the rest.
    """
    law = {"hidden": math.sqrt(leaf.fan_in), "output": float(leaf.fan_in)}
    return rms(x) * law.get(leaf.role, 1.0)
