"""One more run: draws of the losses that it may have, and intervals of draws.

Takes draws of a law's value, from `result.py`; adds the noise of a run, or mixes all accounts of
the error that a `Forecast` knows.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scaling.laws.discrepancy import Told
    from scaling.laws.forecast import Forecast

DRAWS = 4000  # of one more run


@dataclass(frozen=True)
class Prediction:
    """Predicted losses with intervals, one entry a row.

    `kind` is "run" (where one more run would land: parameters, noise and lack of fit) or "mean"
    (the law itself: parameters only).
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: float
    kind: str


@dataclass(frozen=True)
class Noise:
    """Scatter of the residuals, in the fit's space (relative to the loss when that is log)."""

    sd: float  # of one run about the law: pooled, lack of fit included
    dof: int  # degrees of freedom behind it
    replicate_sd: float | None = None  # of runs that differ in nothing but the seed
    replicate_dof: int = 0
    between_sd: float = 0.0  # of a point's true mean about the law, where replicates show it
    between_dof: int = 0


def with_noise(drawn: np.ndarray, noise: Noise, space: str, seed: int) -> np.ndarray:
    """One more run at each draw [draws, rows]: its seed noise, and the law's own error at its
    point.
    """
    rng = np.random.default_rng(seed)

    def scatter(sd: float, dof: int) -> np.ndarray:
        student = rng.standard_t(dof, drawn.shape) if dof > 0 else rng.normal(size=drawn.shape)
        return sd * student

    if noise.between_sd > 0 and noise.replicate_sd is not None:
        change = scatter(noise.replicate_sd, noise.replicate_dof)
        change = change + scatter(noise.between_sd, noise.between_dof)
    else:
        change = scatter(noise.sd, noise.dof)
    return drawn * np.exp(np.clip(change, -50, 50)) if space == "log" else drawn + change


def mixed(
    known: "Forecast", told: "Told", sureness: tuple[np.ndarray, np.ndarray], drawn: np.ndarray,
    weight: np.ndarray, noise: Noise, seed: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Mean [rows] and draws [draws, rows] of one more run, by all accounts of the error.

    Args:
      known, told, sureness: the accounts, what they say of the rows, and how sure they are there.
      drawn: of the law [draws, rows], which is the first account, and
      weight: the probability of each draw.
      noise: about the law.
      seed: of all that is drawn.
    """
    rng, log = np.random.default_rng(seed), known.space == "log"
    count = np.round(known.share * DRAWS).astype(int)
    picked = drawn[rng.choice(len(drawn), count[0], p=weight)]
    alone = with_noise(picked, noise, known.space, seed)
    if known.tail is not None and not noise.between_sd:
        tail = np.sqrt(told.noise[0]) * rng.choice(known.tail, picked.shape)
        alone = picked * np.exp(tail) if log else picked + tail
    if log:
        picked, alone = (np.log(np.maximum(v, 1e-300)) for v in (picked, alone))
    means = told.mean.copy()
    if count[0]:
        means[0] = picked.mean(axis=0)
    middle = known.share @ means
    scale, dof = sureness
    spread, parts = np.sqrt(told.parameters + told.form + told.noise), [alone]
    for k in range(1, len(count)):
        normal = rng.normal(size=(count[k], len(middle)))
        # The scale of errors is known from few backtests: drawn from its chi-square.
        normal *= np.sqrt(dof / rng.chisquare(dof, (count[k], len(middle))))
        parts.append(means[k] + spread[k] * normal)
    out = middle + scale * (np.concatenate(parts) - middle)
    if log:
        return np.exp(middle), np.exp(np.clip(out, -700, 700))
    return middle, out


def interval(mean: np.ndarray, drawn: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval of draws [draws, rows], which holds the mean: low and high [rows]."""
    quantile = np.quantile if np.isfinite(drawn).all() else np.nanquantile  # 10 times as slow
    low, high = quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.minimum(low, mean), np.maximum(high, mean)
