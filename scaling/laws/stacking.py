"""Several laws as one prediction, weighed by how their mixture did in backtests.

The weights minimise the continuous ranked probability score of the mixture (Gneiting & Raftery
2007, J. Am. Statist. Assoc. 102, 359, eq. 21), a proper score, over the predictions that the laws
made of a table's larger runs: stacking (Yao et al. 2018, Bayesian Analysis 13, 917), by a score
that draws alone give. Takes backtests and fits; called by `fit_command.py`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scaling.errors import UserError
from scaling.laws.backtests import Backtest
from scaling.laws.outcomes import DRAWS, Prediction, interval
from scaling.laws.result import Fit

CUTS_WORTH = 1.0  # cuts that the belief in equal weights is worth
SLIGHT = 0.01  # weight below which a law is left out


def common_rows(tests: Mapping[str, Backtest]) -> list[np.ndarray]:
    """Of each law, its predictions that all laws made [common], in one order.

    Raises UserError where no run was predicted by all.
    """
    keys = [pd.MultiIndex.from_frame(one.rows[["below", "row"]]) for one in tests.values()]
    both = keys[0]
    for key in keys[1:]:
        both = both.intersection(key, sort=False)
    if not len(both):
        raise UserError(
            f"--average: no run was predicted by all of {', '.join(tests)}; leave out the laws "
            "that need most runs"
        )
    return [key.get_indexer(both) for key in keys]


def weights(tests: Mapping[str, Backtest]) -> dict[str, float]:
    """Weight of each law, by its backtest on one table; they sum to 1.

    Scores are relative to what was measured, and each cut counts alike. Few cuts say little: the
    weights are drawn to equal ones as by one cut more, at which all laws did alike.
    """
    if len(tests) == 1:
        return dict.fromkeys(tests, 1.0)
    from scipy.optimize import minimize  # slow to import, needed by few fits

    taken = common_rows(tests)
    first = next(iter(tests.values())).rows.iloc[taken[0]]
    counts = first.groupby("below").below.transform("size").to_numpy()
    cuts = first.below.nunique()
    per_run = 1 / (cuts * counts * np.abs(first.measured.to_numpy()))
    drawn = [one.drawn[:, part] for one, part in zip(tests.values(), taken, strict=True)]
    own = np.array([per_run @ np.abs(d - first.measured.to_numpy()).mean(axis=0) for d in drawn])
    between = np.array([[per_run @ _apart(a, b) for b in drawn] for a in drawn])
    # The score is own @ w - w @ between @ w / 2. The belief is a Dirichlet's, in units of the score
    # of equal weights, so that it does not depend on how well the table can be predicted at all.
    equal = np.full(len(own), 1 / len(own))
    unit = max(own @ equal - equal @ between @ equal / 2, 1e-12)

    def off(w: np.ndarray) -> tuple[float, np.ndarray]:
        belief = CUTS_WORTH / cuts
        score = (own @ w - w @ between @ w / 2) / unit - belief * equal @ np.log(w)
        return float(score), (own - between @ w) / unit - belief * equal / w

    found = minimize(
        off, equal, jac=True, method="SLSQP", bounds=[(1e-6, 1.0)] * len(own),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-10, "maxiter": 500},
    )  # fmt: skip
    out = np.where(found.x < SLIGHT, 0.0, found.x)
    return dict(zip(tests, (out / out.sum()).tolist(), strict=True))


def _apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mean distance between draws of two predictions [draws, runs] each: [runs]."""
    return np.abs(first[:, None] - second[None]).mean(axis=(0, 1))


@dataclass(frozen=True)
class Stack:
    """Laws fitted to one table, each with its weight."""

    fits: tuple[Fit, ...]
    weights: tuple[float, ...]  # positive; they sum to 1

    @property
    def loss(self) -> str:
        """Column that is predicted."""
        return self.fits[0].loss

    def outcomes(self, at: Any, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Mean of one more run at `at` [rows], and draws of it [draws, rows].

        Raises UserError when a law of the stack cannot be extrapolated there.
        """
        means, parts = [], []
        rng = np.random.default_rng(seed)
        for found, weight in zip(self.fits, self.weights, strict=True):
            mean, drawn = found.outcomes(at, seed=seed)
            means.append(mean)
            parts.append(drawn[rng.integers(len(drawn), size=round(weight * DRAWS))])
        return np.array(self.weights) @ np.stack(means), np.concatenate(parts)

    def predict(self, at: Any, *, level: float | None = None, seed: int = 0) -> Prediction:
        """Losses of one more run at `at`, values of each law's columns; raises as `outcomes`."""
        level = self.fits[0].level if level is None else level
        mean, drawn = self.outcomes(at, seed=seed)
        return Prediction(mean, *interval(mean, drawn, level), level, "run")

    def says(self, times: float = 10.0) -> str:
        """Lines: the weights, and a run beyond the largest where the first law knows one."""
        named = ", ".join(f"{f.law} {w:.0%}" for f, w in zip(self.fits, self.weights, strict=True))
        lines = [f"average of laws, weighed by their backtests: {named}"]
        known = self.fits[0].forecast
        if known is not None:
            at = known.beyond(times)
            try:
                there = self.predict(at)
            except UserError as e:
                return "\n".join([*lines, f"  note: {e}"])
            place = ", ".join(f"{self.fits[0].x.get(n, n)} {v[0]:.3g}" for n, v in at.items())
            lines.append(
                f"  a run {times:g} times beyond the largest ({place}): {self.loss} "
                f"{there.mean[0]:.4g} [{there.low[0]:.4g}, {there.high[0]:.4g}] ({there.level:.0%})"
            )
        return "\n".join(lines)

    def to_json(self) -> str:
        """All of it as JSON."""
        fits = [json.loads(f.to_json()) for f in self.fits]
        return json.dumps({"weights": self.weights, "fits": fits}, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Stack":
        """The inverse of `to_json`. Raises UserError when the text is no stack."""
        try:
            values = json.loads(text)
            fits = tuple(Fit.from_json(json.dumps(f)) for f in values["fits"])
            return cls(fits, tuple(float(w) for w in values["weights"]))
        except (ValueError, KeyError, TypeError) as e:
            raise UserError(f"this is no stack.json of `launch.py fit --average`: {e}") from None
