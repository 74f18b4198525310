"""What each part of an input has to do with a number that a model makes of it. Pure functions.

Takes a function of one array, the array, and a baseline that stands for nothing known; gives scores
of the array's shape. Called by `explanation.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

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


def integrated_gradients(
    of: Callable[[Array], Array],
    x: Array,
    baseline: Array,
    tolerance: float = 1e-3,
    most: int = 2048,
) -> Attribution:
    """The gradient's mean on the straight way from the baseline to x, times that way (Sundararajan
    et al. 2017, arXiv 1703.01365, equation 1).

    Its sum is of(x) - of(baseline) (proposition 1) as far as the integral is exact: by
    Gauss-Legendre in pieces of 32 nodes, twice as many until the sum holds to `tolerance`, or
    `most` gradients were taken.

    Args:
      of: of an array like x, a float32 scalar.
      baseline: of x's shape.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    nodes, weights = (nodes + 1) / 2, weights / 2
    way = x - baseline

    @jax.jit
    def piece(alphas: Array, shares: Array) -> Array:
        def add(total: Array, at: tuple[Array, Array]) -> tuple[Array, None]:
            alpha, share = at
            return total + share * jax.grad(of)(baseline + alpha * way), None

        return jax.lax.scan(add, jnp.zeros_like(x), (alphas, shares))[0]

    value = jax.jit(of)
    explained = float(value(x)) - float(value(baseline))
    pieces = 1
    while True:
        total = np.zeros(x.shape)
        for i in range(pieces):
            at = jnp.asarray((i + nodes) / pieces, jnp.float32)
            total += np.asarray(piece(at, jnp.asarray(weights / pieces, jnp.float32)), np.float64)
        found = Attribution(total * np.asarray(way, np.float64), explained, pieces * _NODES)
        if found.gap <= tolerance or 2 * found.steps > most:
            return found
        pieces *= 2


def occlusion(
    of: Callable[[Array], Array], x: Array, baseline: Array, groups: np.ndarray
) -> np.ndarray:
    """What is lost where a part of x is the baseline (Zeiler and Fergus 2014, arXiv 1311.2901,
    section 4.2): of(x) less of(x without the part), float64 [groups].

    Args:
      groups: whole numbers from 0, which broadcast to x: which part an entry is of.
    """

    @jax.jit
    def lost(whole: Array) -> Array:
        def without(group: Array) -> Array:
            return of(whole) - of(jnp.where(groups == group, baseline, whole))

        return jax.lax.map(without, jnp.arange(int(groups.max()) + 1))

    return np.asarray(lost(x), np.float64)


def squares(height: int, width: int, side: int) -> np.ndarray:
    """Groups [1, Y, X, 1] of an image: squares of so many pixels a side, those at the far ends what
    is left.
    """
    rows, columns = np.arange(height) // side, np.arange(width) // side
    return (rows[:, None] * (columns[-1] + 1) + columns[None])[None, :, :, None]
