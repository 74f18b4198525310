"""Where two ways of computing the same step part first, module by module.

A step is computed as it is compiled, and once more: eagerly, in another dtype, or in float64 (every
float of the program widened: what it would give without rounding). The outputs of the modules are
compared in the order of the forward pass, then the gradients at them in the order of the backward
pass. Called by `launch.py debug --compare`.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from scaling.debug import widened
from scaling.debug.instant import Instant
from scaling.debug.step import Looked, look

Other = Literal["eager", "float32", "bfloat16", "float64"]
_ROUNDINGS = 16  # of the coarser dtype, that count as nothing


@dataclass(frozen=True)
class Line:
    """One array of the two."""

    name: str
    what: str  # output | gradient
    relative: float  # RMS of the difference over the RMS of what is compared with; inf: not finite
    rms: float  # of what is compared with


@dataclass(frozen=True)
class Parting:
    """Every array, in the order in which it is computed."""

    ours: str
    theirs: str
    tolerance: float
    lines: tuple[Line, ...]

    @property
    def first(self) -> Line | None:
        """The first beyond the tolerance."""
        return next((line for line in self.lines if not line.relative <= self.tolerance), None)


def compare(instant: Instant, other: Other) -> Parting:
    """The step of `instant`, compiled, against the other way."""
    ours = instant.config.model.dtype
    state, batch = instant.state, instant.batch
    compiled: Looked = instant.here(jax.jit(look(instant)))(state, batch)
    coarser = [jnp.dtype(ours)]
    if other == "eager":
        with jax.disable_jit():
            against = instant.here(look(instant))(state, batch)
    elif other == "float64":
        against = instant.here(_wide)(look(instant), state, batch)
    else:
        model = dataclasses.replace(instant.config.model, dtype=other)
        config = dataclasses.replace(instant.config, model=model)
        moved = dataclasses.replace(instant, config=config)
        against = moved.here(jax.jit(look(moved)))(state, batch)
        coarser.append(jnp.dtype(other))
    eps = max(float(jnp.finfo(dtype).eps) for dtype in coarser)
    forward = _lines("output", compiled.outputs, against.outputs)
    backward = _lines("gradient", compiled.of_outputs, against.of_outputs)
    lines = (*forward, *reversed(backward))
    return Parting(f"compiled {ours}", other, _ROUNDINGS * eps, lines)


def _wide(function: Callable[..., Any], *args: Any) -> Any:
    return widened.function(function, *args)(*args)


def _lines(what: str, ours: Any, theirs: Any) -> list[Line]:
    return [
        Line(name, what, *_difference(a, b))
        for (name, a), b in zip(ours.items(), theirs.arrays, strict=True)
    ]


def _difference(a: Any, b: Any) -> tuple[float, float]:
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    same = (first == second) | (np.isnan(first) & np.isnan(second))  # infinities too
    if np.any(~same & ~(np.isfinite(first) & np.isfinite(second))):
        return float("inf"), float(np.sqrt(np.mean(second**2)))
    fine = np.isfinite(first) & np.isfinite(second)
    rms = float(np.sqrt(np.mean(second[fine] ** 2))) if fine.any() else 0.0
    apart = float(np.sqrt(np.mean((first[fine] - second[fine]) ** 2))) if fine.any() else 0.0
    return (apart / rms if rms else float(apart > 0)), rms


def text(found: Parting) -> str:
    """For a person."""
    width = max(len(line.name) for line in found.lines)
    rows = [
        f"{line.name:{width}s}  {line.what:8s}  {line.relative:8.1e}"
        + ("  *" if line is found.first else "")
        for line in found.lines
    ]
    head = f"{found.ours} against {found.theirs}: RMS of the difference over the RMS"
    if found.first is None:
        worst = max(found.lines, key=lambda line: line.relative)
        said = f"they agree to {found.tolerance:.1e}; {worst.relative:.1e} at most ({worst.name})"
    else:
        way = {"output": "forward", "gradient": "backward"}[found.first.what]
        said = (
            f"THEY PART FIRST, in the {way} pass, at the {found.first.what} of {found.first.name}: "
            f"{found.first.relative:.1e} (more than {found.tolerance:.1e})"
        )
    return "\n".join([head, *rows, said])
