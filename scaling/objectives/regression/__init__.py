"""Squared error of real targets. No jax here; `rows.py` computes.

Needs a family whose `out` [B, T] are predictions, and a batch with `targets` and `weight`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from scaling.config import choices
from scaling.config.choices import Metric


@dataclass(frozen=True)
class RegressionConfig:
    """Mean squared error (`scaling/objectives/regression`)."""

    name: Literal["regression"] = "regression"


def r_squared(sums: np.ndarray) -> float:
    """Explained variance: 1 - squared error / squared distance of the targets from their means,
    each summed over examples and targets; 1 at best, 0 for the mean of the evaluated set.

    `sums`: [T, 4], count, sum and sum of squares of the targets, sum of squared errors. NaN where
    no target varies.
    """
    count, total, square, error = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        around_mean = np.sum(square - total**2 / count)
    return float(1 - error.sum() / around_mean) if around_mean > 0 else float("nan")


OBJECTIVE = choices.Objective(
    config=RegressionConfig,
    rows="scaling.objectives.regression.rows:rows",
    outputs=frozenset({"out"}),
    fields=frozenset({"targets", "weight"}),
    metrics={
        "loss": Metric("squared error", "targets²"),
        "r_squared": Metric("R²", better="higher", finish=r_squared),
    },
)
