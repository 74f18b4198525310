"""Is the gradient the derivative of the loss? Against finite differences, in float64.

Takes an `Instant`; a copy of its model, shrunk, is traced as it is (its hand-written backward
passes too), and computed in float64 (`widened.py`), where central differences are exact to many
digits. Compared are derivatives along random directions, at the output of every module, from the
last to the first, and at every parameter. Called by `launch.py debug --check_grads`.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling.config import RunConfig, choices
from scaling.debug import widened
from scaling.debug.instant import Instant, mesh_of_one
from scaling.debug.modules import Seen, outputs
from scaling.debug.step import loss_of
from scaling.errors import UserError
from scaling.train import state as state_lib

TOLERANCE = 1e-4  # relative; rounding and the third derivative leave about 1e-8
_STEP = 1e-5  # of a difference, of the RMS of what is moved


@dataclass(frozen=True)
class Check:
    """A derivative along one direction."""

    name: str  # of a module's output, or of a parameter
    what: str  # output | parameter
    gradient: float  # as the backward pass gives it
    difference: float  # as finite differences give it
    scale: float  # of such derivatives here: that of a gradient of the same length

    @property
    def relative(self) -> float:
        """|gradient - difference| over the larger of both and a thousandth of `scale`."""
        over = max(abs(self.gradient), abs(self.difference), 1e-3 * self.scale, 1e-30)
        return abs(self.gradient - self.difference) / over

    @property
    def right(self) -> bool:
        """Whether they agree."""
        return bool(self.relative <= TOLERANCE)


def shrunk(instant: Instant) -> Instant:
    """A small model of the same form, at its initial parameters, and two rows of the batch."""
    config = _small(instant.config)
    pieces = state_lib.parts(config)
    plan = state_lib.layout(pieces, config, mesh_of_one())
    shapes = choices.kind(config.data).shapes(config.data)
    batch = {
        name: x[(slice(2), *(slice(size) for size in shapes[name][0]))]
        for name, x in instant.batch.items()
    }
    state = state_lib.init(pieces, config, plan)
    return Instant(config, instant.step, state, batch)


def _small(config: RunConfig) -> RunConfig:
    model, data = config.model, config.data
    shrunk = choices.family(model).shrunk
    if shrunk is None:
        small: Any = dataclasses.replace(
            model, width=min(model.width, 16), depth=min(model.depth, 2), dtype="float32"
        )
        units = data.units_per_example
    else:
        small, units = shrunk(model, data.units_per_example)
    data = choices.kind(data).shortened(data, units)
    train = dataclasses.replace(config.train, batch_size=2)
    return dataclasses.replace(config, model=small, data=data, train=train)


def check(instant: Instant, seed: int = 0) -> list[Check]:
    """Outputs from the last to the first, then parameters, of the shrunk copy.

    Raises UserError for an objective with several players.
    """
    if instant.pieces.objective.players:
        raise UserError(
            f"--check_grads: objective.name={instant.config.objective.name} has several players, "
            "each of which holds the parameters of the others fixed, as a difference does not; "
            "leave it out"
        )
    small = shrunk(instant)
    loss, params, batch = loss_of(small), small.state.params, small.batch
    _, shapes = small.here(jax.eval_shape)(outputs(loss), params, batch)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def probed(params: Any, probes: Seen) -> Any:
        (value, _), seen = outputs(loss, probes)(params, batch)
        return value, seen

    value = small.here(widened.function)(probed, params, zeros)
    gradient = small.here(widened.function)(
        lambda p, q: jax.grad(probed, argnums=(0, 1), has_aux=True)(p, q)[0], params, zeros
    )
    here = small.here(value)
    _, seen = here(params, zeros)
    of_params, of_outputs = small.here(gradient)(params, zeros)
    rng = np.random.default_rng(seed)

    def along(name: str, what: str, x: Any, g: Any, moved: Callable[[Any], float]) -> Check:
        """`moved(change)` is the loss when x is changed so."""
        direction = rng.standard_normal(np.shape(x))
        step = _STEP * (float(np.sqrt(np.mean(np.square(x)))) or 1.0)
        difference = (moved(step * direction) - moved(-step * direction)) / (2 * step)
        length = float(np.sqrt(np.sum(np.square(g))))
        return Check(name, what, float(np.sum(np.asarray(g) * direction)), difference, length)

    found = []
    nothing = [np.zeros(np.shape(x)) for x in seen.arrays]
    for i, name in reversed([*enumerate(seen.names)]):

        def at_output(change: Any, i: int = i) -> float:
            arrays = (*nothing[:i], change, *nothing[i + 1 :])
            return float(here(params, Seen(seen.names, arrays))[0])

        found.append(along(name, "output", seen.arrays[i], of_outputs.arrays[i], at_output))
    leaves, structure = jax.tree.flatten(params)
    gradients = jax.tree.leaves(of_params)
    names = _names(small)
    for i, leaf in enumerate(leaves):

        def at_parameter(change: Any, i: int = i) -> float:
            arrays = [np.asarray(x, np.float64) for x in leaves]
            arrays[i] = arrays[i] + change
            return float(here(jax.tree.unflatten(structure, arrays), zeros)[0])

        found.append(along(names[i], "parameter", leaf, gradients[i], at_parameter))
    return found


def _names(instant: Instant) -> list[str]:
    paths = jax.tree_util.tree_leaves_with_path(instant.state.params)
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]


def text(found: list[Check]) -> str:
    """For a person."""
    wrong = [check for check in found if not check.right]
    worst = max(found, key=lambda check: check.relative)
    head = f"{len(found)} gradients of a shrunk copy against finite differences in float64"
    if not wrong:
        return f"{head}: all agree, to {worst.relative:.1g} at worst ({worst.name})"
    first = wrong[0]
    before = found[found.index(first) - 1] if found.index(first) else None
    lines = [f"{head}: {len(wrong)} are WRONG"]
    if first.what == "output":
        after = "the loss" if before is None else f"the output of {before.name}, which is right"
        lines.append(
            f"the first, from the loss backwards, is at the output of {first.name}: the backward "
            f"pass between it and {after}"
        )
    else:
        lines.append(f"outputs are right; the first parameter is {first.name}")
    lines += [
        f"  {check.what} {check.name}: gradient {check.gradient:.6g}, differences "
        f"{check.difference:.6g}"
        for check in wrong[:8]
    ]
    return "\n".join(lines + ([f"  and {len(wrong) - 8} more"] if len(wrong) > 8 else []))
