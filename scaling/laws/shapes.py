"""Which models there are, and what a unit of data costs to train one on.

Without a recipe: 6 FLOPs a parameter and token, and shapes by the rule of the base's family
(`ByFormula`). With one: the models that the recipe makes, a width each, with the parameters and
FLOPs that their family counts (`ByWidth`). Called by `planning.py`, `design.py` and `rungs.py`; the
command hands in the functions that know a family.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from scaling.errors import UserError
from scaling.laws.measures import TOKEN

FLOPS_PER = 6.0  # training FLOPs a param a token
WIDEN = 1.1  # factor between widths that are looked at
SHORTEST = 1e-3  # units a param of the longest run that the largest model looked at could have


@dataclass(frozen=True)
class Shape:
    """A model that there is."""

    params: float
    flops_per_unit: float  # of training
    overrides: Mapping[str, Any]  # dotted config field -> value; no length


class Shapes(Protocol):
    """The models that a plan chooses among."""

    @property
    def unit(self) -> str:
        """What data are counted in, in the singular."""

    @property
    def convention(self) -> str:
        """How FLOPs are counted, in words."""

    def flops_per_unit(self, params: Any) -> Any:
        """Training FLOPs a unit of models of so many params (any shape)."""

    def span(self) -> tuple[float, float]:
        """Params of the smallest and the largest model."""

    def even(self, flops: float, ratio: float = 1.0) -> float:
        """Params of the model that `flops` train for `ratio` units a param."""

    def offered(self, params: np.ndarray) -> np.ndarray:
        """Params of the models nearest to these, each once, ascending."""

    def nearest(self, params: float) -> Shape:
        """The model nearest to so many params."""


class ByFormula:
    """FLOPs = 6 x params x tokens; models of any size."""

    unit = TOKEN
    convention = f"FLOPs = {FLOPS_PER:g} x params x tokens"  # others count attention too

    def __init__(self, rule: Callable[[float], Shape] | None = None):
        """`rule`: params -> the model nearest to them; None: no model is asked for."""
        self.rule = rule

    def flops_per_unit(self, params: Any) -> Any:
        """See `Shapes`."""
        return FLOPS_PER * params

    def span(self) -> tuple[float, float]:
        """All sizes."""
        return 0.0, np.inf

    def even(self, flops: float, ratio: float = 1.0) -> float:
        """See `Shapes`."""
        return float(np.sqrt(flops / FLOPS_PER / ratio))

    def offered(self, params: np.ndarray) -> np.ndarray:
        """These."""
        return params

    def nearest(self, params: float) -> Shape:
        """By the rule."""
        if self.rule is None:
            raise ValueError("no rule of shapes was given")
        return self.rule(params)


class ByWidth:
    """The models of a recipe, at multiples of a step of width."""

    def __init__(
        self, shape: Callable[[int], Shape], step: int, *, unit: str, name: str, flops: float
    ):
        """`shape`: width -> its model; `name`: of the recipe; `flops`: the largest budget.

        Raises UserError where the recipe makes no model at the smallest widths.
        """
        self.unit, self.name, self.step = unit, name, step
        self.convention = f"FLOPs as counted for the models of {name}"
        self.shape = functools.lru_cache(maxsize=None)(shape)
        widths, found, wrong = list[int](), list[Shape](), None
        width = step
        while len(widths) < 300:
            try:
                one = self.shape(width)
            except UserError as error:  # a width that the family cannot have
                wrong = error
            else:
                if not found or one.params > found[-1].params:
                    widths.append(width)
                    found.append(one)
                if one.flops_per_unit * one.params * SHORTEST > flops:
                    break
            if not found and width >= 16 * step:
                break
            width = max(width + step, round(width * WIDEN / step) * step)
        if len(found) < 2:
            why = f": {wrong}" if wrong else f"; {flops:g} FLOPs are too few for its smallest"
            raise UserError(f"--recipe={name} makes no ladder of models{why}")
        self.widths = np.array(widths)
        self.log_params = np.log([one.params for one in found])
        self.log_flops = np.log([one.flops_per_unit for one in found])

    def flops_per_unit(self, params: Any) -> Any:
        """Between the widths looked at, and beyond them, by power laws."""
        at, x, y = np.log(params), self.log_params, self.log_flops
        inner = np.interp(at, x, y)
        low = y[0] + (at - x[0]) * (y[1] - y[0]) / (x[1] - x[0])
        high = y[-1] + (at - x[-1]) * (y[-1] - y[-2]) / (x[-1] - x[-2])
        return np.exp(np.where(at < x[0], low, np.where(at > x[-1], high, inner)))

    def span(self) -> tuple[float, float]:
        """See `Shapes`."""
        return float(np.exp(self.log_params[0])), float(np.exp(self.log_params[-1]))

    def even(self, flops: float, ratio: float = 1.0) -> float:
        """See `Shapes`; at most the largest model."""
        spent = self.log_params + self.log_flops + np.log(ratio)
        return float(np.exp(np.interp(np.log(flops), spent, self.log_params)))

    def offered(self, params: np.ndarray) -> np.ndarray:
        """See `Shapes`."""
        return np.unique([self.nearest(float(p)).params for p in params])

    def nearest(self, params: float) -> Shape:
        """Of all multiples of the step, by the logarithm of params."""
        last = len(self.widths) - 1
        at = min(int(np.searchsorted(self.log_params, np.log(params))), last)
        low, high = int(self.widths[max(at - 1, 0)]), int(self.widths[at])
        while high - low > self.step:
            middle = low + (high - low) // (2 * self.step) * self.step
            try:
                params_there = self.shape(middle).params
            except UserError:  # the family has none in between
                break
            low, high = (middle, high) if params_there <= params else (low, middle)
        return min(
            (self.shape(low), self.shape(high)), key=lambda s: abs(np.log(s.params / params))
        )
