"""What a law is: a pure function of parameters and columns, with the facts that a fit needs.

A `Law` names its columns and parameters, their bounds and a grid of starting values, and says
which parameters enter linearly: those are solved for in closed form at every point of the grid of
the others, so they need no starts. The laws themselves are in `forms.py` and its neighbours; the
minimiser works in unconstrained coordinates, the logarithm of a parameter or the parameter itself.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from scaling.laws.later import jnp

Values = Mapping[str, Any]  # parameter -> scalar, or column -> array [rows]
# Columns that a larger budget makes larger; others (bits, shares, another loss) are a choice.
GROWING = (
    "x", "params", "tokens", "unique_tokens", "flops", "width", "depth", "inner_params",
    "embedding_params",
)  # fmt: skip
FAR = 120.0  # how far a log coordinate may run: e^120, beyond any count


@dataclass(frozen=True)
class Parameter:
    """One parameter of a law."""

    name: str
    grid: tuple[float, ...] = (1.0,)  # starting values, natural scale; unused when linear
    low: float = 0.0  # bounds, natural scale
    high: float = math.inf
    link: Literal["log", "identity"] = "log"  # coordinate of the minimiser
    linear: bool = False  # the prediction (or its logarithm, see Law) is linear in it
    unit: str | None = None  # starting values are multiples of this column's geometric mean, or
    # of "largest" or "least", the extremes of what is predicted
    unit_power: float = 1.0  # power of the unit

    def coordinate(self, value: float | np.ndarray) -> np.ndarray:
        """Natural scale -> the minimiser's coordinate; zeros of a log go far to the left."""
        if self.link == "identity":
            return np.asarray(value, float)
        return np.log(np.maximum(value, math.exp(-FAR)))

    def value(self, coordinate: Any) -> Any:
        """The minimiser's coordinate -> natural scale (arrays of either library)."""
        if self.link == "identity":
            return coordinate
        ours = isinstance(coordinate, np.ndarray | np.generic | float | int)
        return np.exp(coordinate) if ours else jnp.exp(coordinate)

    def bounds(self) -> tuple[float, float]:
        """Bounds of the coordinate."""
        if self.link == "identity":
            return self.low, self.high
        low = math.log(self.low) if self.low > 0 else -FAR
        return low, math.log(self.high) if self.high < math.inf else FAR


@dataclass(frozen=True)
class Law:
    """A law: loss (or another positive quantity) as a function of columns.

    `predict(parameters, columns)` takes scalars and arrays [rows] and gives an array [rows]; it is
    written in jax.numpy, so that gradients and Hessians are exact.
    """

    name: str
    formula: str  # for people
    columns: tuple[str, ...]  # what it reads; a law of one column calls it "x"
    parameters: tuple[Parameter, ...]
    predict: Callable[[Values, Values], Any]
    source: str  # paper and section
    exponents: tuple[str, ...] = ()  # parameters that a reader compares across studies
    linear_in: Literal["prediction", "log"] = (
        "prediction"  # what the linear parameters are linear in
    )
    floor: str | None = None  # the irreducible part: what is left at infinite columns
    prepare: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]] | None = None
    needs: tuple[str, ...] = ()  # what prepare reads, when that is not `columns`
    labels: tuple[str, ...] = ()  # columns that only tell things apart: any text will do
    constants: Mapping[str, float] | None = None  # given values a fit may replace, never fitted
    target: str = "loss"  # what is predicted: the default column
    most: float = float("inf")  # that the target can be
    zeros: tuple[str, ...] = ()  # columns that may be zero
    optional: tuple[str, ...] = ()  # columns that may be the same in all rows

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        return tuple(p.name for p in self.parameters)

    def __getitem__(self, name: str) -> Parameter:
        return self.parameters[self.names.index(name)]

    def grid(self, free: Sequence[str], units: Mapping[str, float]) -> np.ndarray:
        """All starting values [starts, free]: the product of the grids; linear ones stand at 1."""
        axes = []
        for p in (self[n] for n in free):
            unit = 1.0 if p.unit is None else units[p.unit] ** p.unit_power
            axes.append((1.0,) if p.linear else tuple(g * unit for g in p.grid))
        return np.array(list(itertools.product(*axes)), float).reshape(-1, len(free))


def power(x: Any, exponent: Any) -> Any:
    """x ** exponent for positive x; the logarithm is shared by all starts of a fit."""
    return jnp.exp(exponent * jnp.log(x))
