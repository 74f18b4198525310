"""What each part of an input has to do with a number that a model makes of it. Pure functions.

Takes a function of parameters and an array, both, and a baseline that stands for nothing known;
gives scores of the array's shape. Called by `explanation.py`.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
_NODES = 32  # of the path that are taken at once


@dataclass(frozen=True)
class Attribution:
    """Scores of an input, and what they are to add up to."""

    scores: np.ndarray  # float64, of the input's shape
    explained: float  # of the input less of the baseline
    steps: int  # gradients taken

    @property
    def gap(self) -> float:
        """By how much the scores' sum misses what is explained, over that."""
        return abs(float(self.scores.sum()) - self.explained) / max(abs(self.explained), 1e-12)


# (parameters, x) -> float32 scalar. Static: of one function a program is compiled once.
Of = Callable[[Any, Array], Array]


def integrated_gradients(
    of: Of,
    params: Any,
    x: Array,
    baseline: Array,
    tolerance: float = 1e-3,
    most: int = 2048,
) -> Attribution:
    """The gradient's mean on the straight way from the baseline to x, times that way (Sundararajan
    et al. 2017, arXiv 1703.01365, equation 1).

    Its sum is of(x) - of(baseline) (proposition 1) as far as the integral is exact: by
    Gauss-Legendre in pieces of 32 nodes, twice as many until the sum holds to `tolerance`, or
    `most` gradients were taken. `baseline`: of x's shape.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    nodes, weights = (nodes + 1) / 2, weights / 2
    explained = difference(of, params, x, baseline)
    pieces = 1
    while True:
        total = np.zeros(x.shape)
        for i in range(pieces):
            at = jnp.asarray((i + nodes) / pieces, jnp.float32)
            shares = jnp.asarray(weights / pieces, jnp.float32)
            total += np.asarray(_piece(of, params, x, baseline, at, shares), np.float64)
        scores = total * np.asarray(x - baseline, np.float64)
        found = Attribution(scores, explained, pieces * _NODES)
        if found.gap <= tolerance or 2 * found.steps > most:
            return found
        pieces *= 2


def difference(of: Of, params: Any, x: Array, baseline: Array) -> float:
    """of(x) - of(baseline)."""
    return float(_value(of, params, x)) - float(_value(of, params, baseline))


@functools.partial(jax.jit, static_argnums=0)
def _value(of: Of, params: Any, x: Array) -> Array:
    return of(params, x)


@functools.partial(jax.jit, static_argnums=0)
def _piece(of: Of, params: Any, x: Array, baseline: Array, alphas: Array, shares: Array) -> Array:
    """The sum of the gradients at some shares of the way, each with its weight."""

    def add(total: Array, at: tuple[Array, Array]) -> tuple[Array, None]:
        alpha, share = at
        return total + share * jax.grad(of, 1)(params, baseline + alpha * (x - baseline)), None

    return jax.lax.scan(add, jnp.zeros_like(x), (alphas, shares))[0]


def occlusion(of: Of, params: Any, x: Array, baseline: Array, groups: np.ndarray) -> np.ndarray:
    """What is lost where a part of x is the baseline (Zeiler and Fergus 2014, arXiv 1311.2901,
    section 4.2): of(x) less of(x without the part), float64 [groups].

    Args:
      groups: whole numbers from 0, which broadcast to x: which part an entry is of.
    """
    numbers = jnp.arange(int(groups.max()) + 1)
    return np.asarray(_lost(of, params, x, baseline, jnp.asarray(groups), numbers), np.float64)


@functools.partial(jax.jit, static_argnums=0)
def _lost(of: Of, params: Any, x: Array, baseline: Array, groups: Array, numbers: Array) -> Array:
    whole = of(params, x)

    def without(group: Array) -> Array:
        return whole - of(params, jnp.where(groups == group, baseline, x))

    return jax.lax.map(without, numbers)


def squares(height: int, width: int, side: int) -> np.ndarray:
    """Groups [1, Y, X, 1] of an image: squares of so many pixels a side, those at the far ends what
    is left.
    """
    rows, columns = np.arange(height) // side, np.arange(width) // side
    return (rows[:, None] * (columns[-1] + 1) + columns[None])[None, :, :, None]
