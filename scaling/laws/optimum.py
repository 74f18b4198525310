"""The best learning rate of each curve of a sweep, with its interval, and its law over size.

Near its minimum the loss is a parabola in the logarithm of the learning rate, as it is in the
logarithm of the model's size at fixed compute (Hoffmann et al. 2022, section 3.2); the best rate
follows a power law of the size (Li et al. 2025, "Predictable Scale: Part I, Step Law"). Takes
arrays, gives numbers; called by `scaling/report`. Pure numpy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special

REACH = 4.0  # runs up to this factor from the best rate tried are fitted
OWN = 4  # residuals, beyond the parameters, that tell the noise of a curve


@dataclass(frozen=True)
class Optimum:
    """The minimum of one curve."""

    rate: float  # of the minimum; where `refused`, the best that was tried
    loss: float  # there, by the fitted curve; where `refused`, the best mean
    low: float  # interval of the rate; NaN: none, and `refused` or `wide` says why
    high: float
    sd: float  # of log rate, to first order; NaN: not known
    doubling: float  # loss that a factor of two from the minimum costs, by its bend there
    refused: str  # why there is no minimum, or ""
    wide: str  # why there is a minimum without an interval, or ""
    level: float
    rates: tuple[float, float]  # least and largest that were swept
    fitted: tuple[float, float]  # of those that the curve was fitted to
    coefficients: tuple[float, ...] = ()  # of loss over log(rate / centre), the constant first
    centre: float = 1.0  # the best rate tried

    def at(self, rate: np.ndarray) -> np.ndarray:
        """The fitted curve's loss at learning rates."""
        return np.polynomial.Polynomial(self.coefficients)(np.log(np.asarray(rate) / self.centre))


@dataclass(frozen=True)
class _Fit:
    """A polynomial through the runs near the best rate of a curve."""

    beta: np.ndarray  # loss = b0 + b1 u + b2 u^2 (+ b3 u^3), u = log(rate / centre)
    covariance: np.ndarray  # of beta, for runs of unit variance
    square: float  # sum of squared residuals, as shares of the loss
    dof: int
    centre: float
    ends: tuple[float, float]  # rates
    vertex: float  # u of its minimum; NaN: none between the ends


def optima(curves: Sequence[tuple[np.ndarray, np.ndarray]], level: float = 0.9) -> list[Optimum]:
    """The minimum of each curve, (learning rates, losses) of its runs, seeds as they come.

    Each is least squares of loss = b0 + b1 u + b2 u^2, u = log rate, over the runs within a factor
    of `REACH` of the best rate tried, and the next on either side. Of five rates or more the curve
    has a term b3 u^3 too: the loss rises faster to the right, and a parabola's minimum would be
    drawn to the flat side, out of its own interval. The interval is all u at which the slope does
    not differ from nothing (of a parabola: Fieller 1954). The noise of a run, seeds and what the
    curve cannot follow alike, is that of its curve's residuals, or where those are too few (`OWN`)
    that of the curve nearest in loss which has enough, as a share of the loss: small models are
    noisier than large ones. Where none has, all are taken together. Its quantile is Student's.

    A best rate at the edge of those tried has no interval: the minimum lies there or beyond.
    """
    given = [_finite(*curve) for curve in curves]
    near = [_near(*curve) for curve in given]
    fits = [n if isinstance(n, str) else _fit(*n) for n in near]
    known = [fit for fit in fits if isinstance(fit, _Fit)]
    return [
        _optimum(*curve, fit, *_noise(fit, known), level)
        for curve, fit in zip(given, fits, strict=True)
    ]


def _noise(fit: _Fit | str, known: Sequence[_Fit]) -> tuple[float, int]:
    """Standard deviation of a run about a curve, as a share of the loss, and its freedom."""
    if isinstance(fit, str):
        return np.nan, 0
    enough = [other for other in known if other.dof >= OWN]
    if enough:
        nearest = min(enough, key=lambda other: abs(np.log(other.beta[0] / fit.beta[0])))
        return np.sqrt(nearest.square / nearest.dof), nearest.dof
    dof = sum(other.dof for other in known)
    return (np.sqrt(sum(other.square for other in known) / dof) if dof else np.nan), dof


_Near = tuple[np.ndarray, np.ndarray, float]  # rates and losses near the best rate tried, and that


def _finite(rate: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rate, loss = np.asarray(rate, float), np.asarray(loss, float)
    kept = np.isfinite(loss) & np.isfinite(rate) & (rate > 0)
    return rate[kept], loss[kept]


def _near(rate: np.ndarray, loss: np.ndarray) -> _Near | str:
    """What a polynomial is fitted to, or why there is nothing to fit."""
    tried = np.unique(rate)
    if len(tried) < 3:
        return f"a minimum between others takes three learning rates: tried {len(tried)}"
    means = np.array([loss[rate == r].mean() for r in tried])
    best = int(np.argmin(means))
    if best in (0, len(tried) - 1):
        end = "smallest" if best == 0 else "largest"
        return f"at the edge, no interval: the best is the {end} rate tried"
    centre = float(tried[best])
    low = min(tried[best - 1], centre / REACH * (1 - 1e-9))
    high = max(tried[best + 1], centre * REACH * (1 + 1e-9))
    used = (rate >= low) & (rate <= high)
    return rate[used], loss[used], centre


def _fit(rate: np.ndarray, loss: np.ndarray, centre: float) -> _Fit:
    u = np.log(rate / centre)
    degree = 3 if len(np.unique(u)) >= 5 else 2
    design = np.vander(u, degree + 1, increasing=True)
    beta = np.linalg.lstsq(design, loss, rcond=None)[0]
    slope = _trimmed(np.polynomial.Polynomial(beta).deriv())
    turns = slope.roots()
    minima = [
        float(turn.real)
        for turn in turns
        if abs(turn.imag) < 1e-9
        and u.min() <= turn.real <= u.max()
        and slope.deriv()(turn.real) > 0
    ]
    return _Fit(
        beta,
        np.linalg.inv(design.T @ design),
        float(np.sum((loss - design @ beta) ** 2)) / float(beta[0]) ** 2,
        len(u) - degree - 1,
        centre,
        (float(rate.min()), float(rate.max())),
        minima[0] if minima else np.nan,
    )


def _optimum(
    rate: np.ndarray, loss: np.ndarray, fit: _Fit | str, noise: float, dof: int, level: float
) -> Optimum:
    tried = np.unique(rate)
    swept = (float(tried[0]), float(tried[-1])) if len(tried) else (np.nan, np.nan)
    if isinstance(fit, _Fit) and np.isnan(fit.vertex):
        fit = "the runs near the best rate do not bend up on both sides: noise hides the minimum"
    if isinstance(fit, str):
        means = [float(loss[rate == r].mean()) for r in tried]
        at = int(np.argmin(means)) if means else 0
        best, least = (float(tried[at]), means[at]) if means else (np.nan, np.nan)
        return Optimum(
            best, least, np.nan, np.nan, np.nan, np.nan, fit, "", level, swept, (np.nan, np.nan)
        )
    curve = np.polynomial.Polynomial(fit.beta)
    bend = float(curve.deriv(2)(fit.vertex))
    variance = fit.covariance * (noise * fit.beta[0]) ** 2
    low, high, wide = np.nan, np.nan, "no more runs than the curve has parameters"
    if dof:
        t = _student(dof, level)
        low, high, wide = _flat(fit.beta, t**2 * variance, fit.vertex)
    gradient = _slopes(len(fit.beta), fit.vertex)
    return Optimum(
        rate=float(fit.centre * np.exp(fit.vertex)),
        loss=float(curve(fit.vertex)),
        low=float(fit.centre * np.exp(low)),
        high=float(fit.centre * np.exp(high)),
        sd=float(np.sqrt(gradient @ variance @ gradient) / bend),
        doubling=bend / 2 * float(np.log(2)) ** 2,
        refused="",
        wide=wide,
        level=level,
        rates=swept,
        fitted=fit.ends,
        coefficients=tuple(map(float, fit.beta)),
        centre=fit.centre,
    )


def _trimmed(curve: np.polynomial.Polynomial) -> np.polynomial.Polynomial:
    """Without leading coefficients that are rounding beside the others: the roots of what bends by
    1e-16 at u of about 1 would be off by percents.
    """
    return curve.trim(1e-12 * float(np.abs(curve.coef).max()))


def _slopes(count: int, u: float) -> np.ndarray:
    """What each of so many coefficients adds to the slope at u."""
    powers = np.arange(count)
    return powers * float(u) ** np.maximum(powers - 1, 0)


def _flat(beta: np.ndarray, variance: np.ndarray, vertex: float) -> tuple[float, float, str]:
    """The ends of all u around the vertex with slope(u)^2 <= variance of slope(u); NaN, and why,
    where there are none.
    """
    count = len(beta)
    slope = np.polynomial.Polynomial(beta).deriv()
    spread: list[float] = [0.0] * (2 * count - 3)
    for i in range(1, count):
        for j in range(1, count):
            spread[i + j - 2] += i * j * float(variance[i, j])
    edge = _trimmed(slope * slope - np.polynomial.Polynomial(spread))
    roots = np.asarray(edge.roots(), complex)
    ends = np.sort(roots.real[np.abs(roots.imag) < 1e-9 * (1 + np.abs(roots))]).tolist()
    below, above = [u for u in ends if u < vertex], [u for u in ends if u > vertex]
    if not below or not above:
        return np.nan, np.nan, "the curve is too flat for its noise: the interval has no ends"
    return below[-1], above[0], ""


@dataclass(frozen=True)
class RateLaw:
    """rate = scale * size^exponent."""

    exponent: float
    low: float  # interval of the exponent; NaN: from two sizes there is none
    high: float
    scale: float
    level: float
    sizes: tuple[float, float]  # least and largest that it was fitted to
    points: int
    covariance: np.ndarray  # [2, 2] of log rate at `middle` and of the exponent
    middle: float  # mean of log size, as weighted

    def at(self, size: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The law at sizes, and the ends of its interval there (NaN: there is none)."""
        x = np.log(np.asarray(size, float)) - self.middle
        centre = np.log(self.scale) + self.exponent * (x + self.middle)
        variance = self.covariance[0, 0] + x**2 * self.covariance[1, 1]
        t = _student(self.points - 2, self.level)
        reach = t * np.sqrt(variance)
        return np.exp(centre), np.exp(centre - reach), np.exp(centre + reach)


def rate_law(sizes: np.ndarray, found: Sequence[Optimum], level: float = 0.9) -> RateLaw | None:
    """The power law through the minima of curves over their sizes; None of fewer than two sizes.

    Least squares in logarithms, weighted by 1 / sd^2 where every sd is known, with the variance of
    the residuals about the line and Student's quantile. Minima that were refused are left out.
    """
    kept = [(s, o) for s, o in zip(sizes, found, strict=True) if not o.refused and s > 0]
    if len({size for size, _ in kept}) < 2:
        return None
    x = np.log([size for size, _ in kept])
    y = np.log([optimum.rate for _, optimum in kept])
    sd = np.array([optimum.sd for _, optimum in kept])
    weight = 1 / sd**2 if np.isfinite(sd).all() and (sd > 0).all() else np.ones_like(x)
    weight = weight / weight.sum()
    middle = float(weight @ x)
    spread = float(weight @ (x - middle) ** 2)
    exponent = float(weight @ ((x - middle) * y)) / spread
    centre = float(weight @ y)
    dof = len(x) - 2
    gap = y - centre - exponent * (x - middle)
    scatter = float(weight @ gap**2) / dof if dof else np.nan
    reach = _student(dof, level) * np.sqrt(scatter / spread)
    return RateLaw(
        exponent=exponent,
        low=exponent - reach,
        high=exponent + reach,
        scale=float(np.exp(centre - exponent * middle)),
        level=level,
        sizes=(float(np.exp(x.min())), float(np.exp(x.max()))),
        points=len(x),
        covariance=np.diag([scatter, scatter / spread]),
        middle=middle,
    )


def _student(dof: int, level: float) -> float:
    return float(scipy.special.stdtrit(dof, (1 + level) / 2)) if dof else np.nan
