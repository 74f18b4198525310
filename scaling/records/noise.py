"""The gradient's noise scale of a run, read from its metrics. No jax in this file.

Takes lines of metrics that have `gradient_noise` and `gradient_square` (`train.noise_scale`); gives
the batch whose gradient is as noisy as it is large: above it larger batches save few steps, below
it they save nearly in proportion (McCandlish et al. 2018, arXiv 1812.06162, section 2.2).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class NoiseScale:
    """Over some steps of a run."""

    units: float  # of the loss's count: tokens, images; NaN: the gradient drowns in its noise
    low: float  # 90% interval; infinite where the gradient may be zero
    high: float
    loss: float  # mean over the steps
    steps: int  # lines


def noise_scale(lines: Iterable[Mapping[str, Any]]) -> NoiseScale:
    """mean(noise) / mean(square) over lines of the train split, each a step.

    The mean of a ratio is no ratio of means: a step's own square is often negative. The interval is
    Fieller's (1954), of the ratio of two means that vary together. Raises ValueError for fewer than
    three lines that have both.
    """
    found = [
        (line["gradient_noise"], line["gradient_square"], line["loss"])
        for line in lines
        if "gradient_noise" in line
    ]
    if len(found) < _LEAST:
        raise ValueError(f"{len(found)} lines have the gradient's noise; it takes {_LEAST}")
    noise, square, loss = np.array(found, float).T
    steps = len(noise)
    covariance = np.cov(noise, square) / steps
    low, high = _fieller(float(noise.mean()), float(square.mean()), covariance)
    units = noise.mean() / square.mean() if square.mean() > 0 else math.nan
    return NoiseScale(float(units), low, high, float(loss.mean()), steps)


_LEAST = 3
_NORMAL = 1.6448536269514722  # quantile of a two-sided 90%


def _fieller(over: float, under: float, covariance: np.ndarray) -> tuple[float, float]:
    """All ratios r for which over - r under does not differ from zero."""
    z2 = _NORMAL**2
    a = under**2 - z2 * covariance[1, 1]
    b = over * under - z2 * covariance[0, 1]
    c = over**2 - z2 * covariance[0, 0]
    root = b * b - a * c
    if root < 0:
        return -math.inf, math.inf
    if a <= 0:  # under may be zero: no upper end
        return max(0.0, (b - math.sqrt(root)) / a if a else 0.0), math.inf
    return float((b - math.sqrt(root)) / a), float((b + math.sqrt(root)) / a)
