"""Squared error of real targets. No jax here; `rows.py` computes.

Needs a family whose `out` [B, T] are predictions, and a batch with `targets` and `weight`.
"""

from dataclasses import dataclass
from typing import Literal

from scaling.config import contracts
from scaling.config.contracts import Metric
from scaling.metrics.finish import r_squared


@dataclass(frozen=True)
class RegressionConfig:
    """Mean squared error (`scaling/objectives/regression`)."""

    name: Literal["regression"] = "regression"


OBJECTIVE = contracts.Objective(
    config=RegressionConfig,
    rows="scaling.objectives.regression.rows:rows",
    outputs=frozenset({"out"}),
    fields=frozenset({"targets", "weight"}),
    metrics={
        "loss": Metric("squared error", "targets²"),
        "r_squared": Metric("R²", better="higher", finish=r_squared),
    },
)
