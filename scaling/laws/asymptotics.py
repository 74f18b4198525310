"""Intervals without resampling: the delta method and the profile likelihood.

Both rest on large-sample theory of M-estimators (Huber 1981, chapter 6): with psi the derivative of
the loss, the objective rises around its minimum like a chi-square times E[psi^2] / (2 E[psi']).
Fast, and right when the law is nearly linear over the interval; README.md gives their coverage,
also where it fails. Called by `fitting.py`.
"""

import numpy as np

from scaling.laws.minimize import minimize
from scaling.laws.problem import Problem

SPREAD = 6.0  # half width of a profile, in standard errors
STEPS = 25  # points of a profile


def scale_of(problem: Problem, residual: np.ndarray, count: int) -> tuple[float, float]:
    """E[psi^2] and E[psi'] of the loss at the residuals, with the small-sample factor.

    E[psi'] is the density of residuals within delta, measured over a band wide enough to hold some.
    """
    size, weight = np.abs(residual), problem.weight
    rows = len(size)
    psi = np.minimum(size, problem.delta)
    square = float(np.sum(weight**2 * psi**2) / max(rows - count, 1))
    if not np.isfinite(problem.delta):
        return square, 1.0
    spread = 1.4826 * np.median(size) + 1e-300
    band = max(problem.delta, spread * rows**-0.2)
    share = float(np.mean(size < band)) * problem.delta / band
    return square, max(share, 1 / rows * problem.delta / band)


def covariance(
    problem: Problem, residual: np.ndarray, jacobian: np.ndarray, live: np.ndarray
) -> np.ndarray:
    """Of the coordinates that are neither idle nor at a bound [live, live].

    jacobian: [rows, free], already times the root of the weights; live: their indices.
    """
    square, slope = scale_of(problem, residual, len(problem.free))
    part = jacobian[:, live]
    return square / slope**2 * np.linalg.pinv(part.T @ part, rcond=1e-14)


def delta_draws(
    problem: Problem,
    best: np.ndarray,
    residual: np.ndarray,
    jacobian: np.ndarray,
    live: np.ndarray,
    *,
    draws: int,
    seed: int,
) -> np.ndarray:
    """Coordinates [draws, free] from the multivariate t around the fit."""
    rng = np.random.default_rng(seed)
    dof = max(len(residual) - len(best), 1)
    spread = covariance(problem, residual, jacobian, live)
    values, vectors = np.linalg.eigh((spread + spread.T) / 2)
    root = vectors * np.sqrt(np.maximum(values, 0))
    out = np.repeat(best[None], draws, axis=0)
    normal = rng.normal(size=(draws, len(live))) @ root.T
    out[:, live] += normal * np.sqrt(dof / rng.chisquare(dof, (draws, 1)))
    low, high = problem.bounds()
    return np.clip(out, low, high)


def profile(
    problem: Problem,
    best: np.ndarray,
    residual: np.ndarray,
    jacobian: np.ndarray,
    live: np.ndarray,
    *,
    level: float,
) -> np.ndarray:
    """Interval of each coordinate [free, 2]: where the objective, minimised over all others, has
    risen by what the level allows. A side on which it never rises so far is at the bound.
    """
    count, (low, high) = len(best), problem.bounds()
    square, slope = scale_of(problem, residual, count)
    dof = max(len(residual) - count, 1)
    from scipy.special import stdtrit  # slow to import, needed by few fits

    allowed = stdtrit(dof, (1 + level) / 2) ** 2 * square / slope / 2
    spread = np.full(count, 1.0)
    spread[live] = np.sqrt(
        np.maximum(np.diag(covariance(problem, residual, jacobian, live)), 1e-16)
    )
    offsets = np.linspace(-SPREAD, SPREAD, STEPS)
    starts = np.repeat(best[None], count * STEPS, axis=0)
    held = np.zeros_like(starts, bool)
    for i in range(count):
        rows = slice(i * STEPS, (i + 1) * STEPS)
        starts[rows, i] = np.clip(best[i] + offsets * spread[i], low[i], high[i])
        held[rows, i] = True
    widened = np.full(len(starts), max(problem.delta, 1e-2))
    tasks = [minimize(problem, starts, held=held, first_delta=d) for d in (None, widened)]
    rise = np.minimum(tasks[0].objective, tasks[1].objective).reshape(count, STEPS)
    rise = rise - rise.min()
    out = np.empty((count, 2))
    middle = STEPS // 2
    for i in range(count):
        place = starts[i * STEPS : (i + 1) * STEPS, i]
        for side, order in enumerate((range(middle, -1, -1), range(middle, STEPS))):
            at = list(order)
            # The square root rises nearly straight, so that interpolation is accurate.
            height = np.maximum.accumulate(np.sqrt(rise[i, at]))
            crossed = height >= np.sqrt(allowed)
            bound = (low, high)[side][i]
            out[i, side] = (
                np.interp(np.sqrt(allowed), height, place[at]) if crossed.any() else bound
            )
    return out
