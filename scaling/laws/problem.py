"""One law on one table, and the law's values: what all that is compiled reads.

`Problem` has the table as arrays; `predict` and `sensitivities` are compiled once a law, for tables
whose rows are filled up to a length that many share. Called by `minimize.py` and by all that
predicts.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling.laws.law import Law

_MOST_SHARED = 512  # rows from which a program of its own pays
_LEAST_ROWS = contextvars.ContextVar("least rows of a program", default=64)


@dataclass(frozen=True)
class Problem:
    """One law on one table: what all tasks share. Arrays are NumPy, float64."""

    law: Law
    free: tuple[str, ...]  # parameters that are fitted, in the order of the coordinates
    given: Mapping[str, float]  # those that are not, and the law's constants, natural scale
    columns: Mapping[str, np.ndarray]  # [rows] (or [rows, ...]) each
    target: np.ndarray  # [rows]: log loss, or loss when space is linear
    weight: np.ndarray  # [rows]
    space: str = "log"
    delta: float = 1e-3  # of the Huber loss, in units of the residual; inf: least squares
    tilt: float = 0.5  # quantile that an asymmetric loss aims at; 0.5: symmetric

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the coordinates [free]."""
        low, high = zip(*(self.law[n].bounds() for n in self.free), strict=True)
        return np.array(low), np.array(high)

    def coordinates(self, values: np.ndarray) -> np.ndarray:
        """Natural scale [..., free] -> coordinates."""
        return np.stack(
            [self.law[n].coordinate(values[..., i]) for i, n in enumerate(self.free)], -1
        )

    def values(self, coordinates: np.ndarray) -> np.ndarray:
        """Coordinates [..., free] -> natural scale."""
        return np.stack(
            [self.law[n].value(coordinates[..., i]) for i, n in enumerate(self.free)], -1
        )


def value_of(law: Law, free: Sequence[str], at: Any, given: Any, columns: Any) -> Any:
    """The law at coordinates [free]: predictions [rows]; traced."""
    values = {n: law[n].value(at[i]) for i, n in enumerate(free)}
    return law.predict({**given, **values}, columns)


@functools.lru_cache(maxsize=64)
def predictor(law: Law, free: tuple[str, ...]) -> Callable[..., Any]:
    """Compiled: coordinates [draws, free], given, columns -> predictions [draws, rows]."""
    one = functools.partial(value_of, law, free)
    return jax.jit(jax.vmap(one, in_axes=(0, None, None)))


@functools.lru_cache(maxsize=64)
def sensitivities(law: Law, free: tuple[str, ...], space: str) -> Callable[..., Any]:
    """Compiled: coordinates [free], given, columns -> Jacobian of the prediction [rows, free]."""

    def one(at: Any, given: Any, columns: Any) -> Any:
        predicted = value_of(law, free, at, given, columns)
        return jnp.log(predicted) if space == "log" else predicted

    return jax.jit(jax.jacfwd(one))


def padded(rows: int) -> int:
    """Rows that the program is compiled for: the next power of two, at least 64, below which fewer
    rows take no less time. Tables of different lengths share programs.
    """
    return rounded(rows, _LEAST_ROWS.get())


def rounded(count: int, least: int) -> int:
    """The next power of two, or more."""
    return max(least, 1 << (count - 1).bit_length())


@contextlib.contextmanager
def room_for(rows: int) -> Iterator[None]:
    """Within, parts of a table of so many rows share its programs: to compile one for each length
    takes longer than to fit them all.
    """
    token = _LEAST_ROWS.set(min(padded(rows), _MOST_SHARED))
    try:
        yield
    finally:
        _LEAST_ROWS.reset(token)


def pad(array: np.ndarray, rows: int) -> np.ndarray:
    """The last row repeated up to `rows` (its weight is zero, its values stay finite)."""
    return np.concatenate([array, np.repeat(array[-1:], rows - len(array), axis=0)])


def predict(problem: Problem, coordinates: np.ndarray, columns: Mapping[str, Any]) -> np.ndarray:
    """Predictions [draws, rows] of many parameter vectors [draws, free], natural scale."""
    rows, draws = len(next(iter(columns.values()))), len(coordinates)
    if not draws:
        return np.zeros((0, rows))
    wide = padded(rows)
    with jax.enable_x64(True):
        padded_columns = {k: pad(np.asarray(v, float), wide) for k, v in columns.items()}
        run = predictor(problem.law, problem.free)
        # On short tables one point costs as little as many: one compiled program for all.
        many = pad(coordinates, rounded(draws, max(64, min(256, 2**16 // wide))))
        out = run(many, dict(problem.given), padded_columns)
        return np.asarray(out)[:draws, :rows]
