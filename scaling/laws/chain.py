"""Two steps: a law of the loss, then a law of what the loss is good for, with the doubt of both.

What a task measures hardly moves until models are large, its loss does at every size: the loss is
extrapolated, and the measure read off it (Grattafiori et al. 2024, arXiv 2407.21783, section 3.2.1;
Bhagia et al. 2024, arXiv 2412.04403). Takes two fits of one table; called by `fit_command.py`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling.errors import UserError
from scaling.laws.outcomes import Prediction
from scaling.laws.result import Fit

LOSSES = 64  # quantiles that stand for the losses which a run may have


@dataclass(frozen=True)
class Chain:
    """A fit of the loss, and one of something else by that loss."""

    first: Fit
    second: Fit

    def predict(self, at: Any, *, level: float | None = None, seed: int = 0) -> Prediction:
        """What the second law predicts of one more run at `at`, columns of the first: the losses
        that the run may have, each read by a law that is itself in doubt.

        Raises UserError when either fit cannot be extrapolated.
        """
        level = self.first.level if level is None else level
        losses, drawn = self.first.outcomes(at, seed=seed)
        tails = [(1 - level) / 2, (1 + level) / 2]
        mean, low, high = (np.zeros(len(losses)) for _ in range(3))
        for row, loss in enumerate(losses):
            mean[row] = self.second.outcomes(np.array([loss]), seed=seed)[0][0]
            among = np.nanquantile(drawn[:, row], (np.arange(LOSSES) + 0.5) / LOSSES)
            _, values = self.second.outcomes(among[among > 0], seed=seed)
            low[row], high[row] = np.nanquantile(values, tails)
        return Prediction(mean, np.minimum(low, mean), np.maximum(high, mean), level, "run")

    def says(self, times: float = 10.0) -> str:
        """One line on a run beyond the largest; empty where the first fit does not know."""
        known = self.first.forecast
        if known is None or set(known.placed) != set(self.first.x):
            return ""
        at = known.beyond(times)
        try:
            there = self.predict(at)
        except UserError:
            return ""
        place = ", ".join(f"{self.first.x[n]} {v[0]:.3g}" for n, v in at.items())
        return (
            f"a run {times:g} times beyond the largest ({place}): {self.second.loss} "
            f"{there.mean[0]:.4g} [{there.low[0]:.4g}, {there.high[0]:.4g}] ({there.level:.0%}), "
            "through its loss"
        )
