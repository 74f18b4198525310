"""What a search may choose: axes with the values that each may take, and how far it goes.

`Study.search` is one; `launch.py sweep --tune` hands it to `scaling/tuning`. No jax in this file.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scaling.errors import ConfigError

Values = dict[str, Any]  # axis -> what was drawn for it


@dataclass(frozen=True)
class Between:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    log: bool = False  # drawn evenly in the logarithm
    whole: bool = False  # whole numbers only

    def __post_init__(self) -> None:
        """Raises ConfigError for ends in the wrong order, or a logarithm of what has none."""
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ConfigError(
                f"between({self.low:g}, {self.high:g}): the first must be below the second"
                + (", and above 0 for log=True" if self.log else "")
            )

    def __str__(self) -> str:
        kind = ("whole numbers " if self.whole else "") + f"{self.low:g} to {self.high:g}"
        return kind + (" by ratios" if self.log else "")


@dataclass(frozen=True)
class Among:
    """One of the values, which have no order."""

    values: tuple[bool | int | float | str | None, ...]

    def __str__(self) -> str:
        return ", ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in self.values)


Axis = Between | Among


def between(low: float, high: float, *, log: bool = False) -> Between:
    """A number; `log` for what is compared by ratios, such as a learning rate."""
    return Between(low, high, log)


def whole(low: int, high: int, *, log: bool = False) -> Between:
    """A whole number."""
    return Between(low, high, log, whole=True)


def among(values: Iterable[Any]) -> Among:
    """One of these. Raises ConfigError for less than two, or for what is no plain value."""
    given = tuple(values)
    if len(given) < 2 or not all(isinstance(v, bool | int | float | str | None) for v in given):
        raise ConfigError(f"among({list(given)}): give two or more numbers, words or None")
    return Among(given)


@dataclass(frozen=True)
class Search:
    """An outer search over the runs of a study, by the loss on its validation set.

    Trials are drawn `at_once` by what is known of those before. All of them are trained to the
    first of the `rungs`; who is among the best 1 / `reduction` of all trials that got so far goes
    on to the next, in the same run directory, and the others are left where they stand (successive
    halving: Jamieson and Talwalkar 2016, arXiv 1502.07943; against all earlier trials as in Li et
    al. 2020, arXiv 1810.05934). With a schedule that falls to the end, a rung compares runs before
    they have fallen: high learning rates look worse there than they end.

    Raises ConfigError for numbers that make no search.
    """

    axes: Mapping[str, Axis]  # dotted config fields, or names that `override` knows
    trials: int = 60
    at_once: int = 12  # trials that are drawn, trained and packed together
    rungs: Sequence[float] = (1 / 9, 1 / 3)  # shares of a run's steps, ascending; (): none
    reduction: int = 3
    # From what was drawn to an override of the base; None: the axes are its fields.
    override: Callable[[Values], Mapping[str, Any]] | None = None
    # Seeds with which the best trial is trained again, and beside it the study's own `runs`: the
    # best of many is the luckiest, too.
    confirm: int = 0
    seed: int = 0  # of what is drawn

    def __post_init__(self) -> None:
        """Checks; see the class."""
        object.__setattr__(self, "rungs", tuple(self.rungs))
        if not self.axes:
            raise ConfigError("Search.axes is empty; give at least one")
        for name, axis in self.axes.items():
            if not isinstance(axis, Between | Among):
                raise ConfigError(f"Search.axes[{name!r}]: give between, whole or among")
        ends = (0.0, *self.rungs, 1.0)
        if any(not math.isfinite(end) for end in ends) or list(ends) != sorted(set(ends)):
            raise ConfigError(
                f"Search.rungs={self.rungs} must be shares of a run, ascending, between 0 and 1"
            )
        for name, least in {"trials": 1, "at_once": 1, "reduction": 2, "confirm": 0}.items():
            if getattr(self, name) < least:
                raise ConfigError(f"Search.{name}={getattr(self, name)} must be at least {least}")

    def pauses(self, steps: int) -> tuple[int, ...]:
        """Updates of a run of so many after which it is compared; the last is its end."""
        inner = {max(1, round(share * steps)) for share in self.rungs}
        return (*sorted(step for step in inner if step < steps), steps)

    def overridden(self, values: Values) -> dict[str, Any]:
        """The override of the base that is the trial of these values."""
        return dict(values if self.override is None else self.override(values))
