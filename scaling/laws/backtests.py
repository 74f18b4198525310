"""Rolling origin: a law fitted below each size of a table predicts every run above it.

`backtest` cuts a table by any column and gives the predictions row by row, with what they came to
against the factor of extrapolation. Called by `fit_command.py`, `selection.py` and the report;
`extrapolation.py` is its last cut.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from scaling import units
from scaling.errors import UserError
from scaling.laws.checks import known_law
from scaling.laws.options import Options
from scaling.laws.outcomes import interval
from scaling.laws.result import Fit
from scaling.laws.rows import numbers

DRAWS = 200  # resamples of each fit: an interval's ends need no more
ITERATIONS = 60  # of a refit: where few rows leave a valley flat, its end does not matter
CUTS = 12  # of a table with more levels, evenly spaced in rows
SAME = 1e-9  # relative difference below which runs are of one size
RUNG = 0.02  # that sizes of different rungs have at least
HALF = 0.5  # level of the second interval
QUANTILES = 32  # that stand for the draws of a prediction
FACTORS = (1.0, 1.5, 3.0, 10.0, 30.0, 100.0, np.inf)  # bins of the table


@dataclass(frozen=True)
class Backtest:
    """Every prediction of a table's larger runs by its smaller ones."""

    law: str
    by: str  # column that was cut
    level: float  # of the intervals
    # A row a prediction: below (largest size fitted), n (rows fitted), factor (of extrapolation),
    # measured, predicted, error (relative), low, high, low_half, high_half, held, held_half, and
    # the row of the table that was predicted.
    rows: pd.DataFrame
    refused: tuple[str, ...]  # cuts without predictions, and why
    # Of each prediction, that many evenly spaced quantiles [QUANTILES, rows].
    drawn: np.ndarray = field(compare=False, repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """By the factor of extrapolation: cuts, runs, errors in %, share of the runs that the
        intervals hold, their width in % and their score (`interval_score`) in %.
        """
        rows = self.rows.assign(
            width=100 * (self.rows.high / self.rows.low - 1), size=100 * self.rows.error.abs(),
            bias=100 * self.rows.error, score=100 * interval_score(self.rows, self.level),
        )  # fmt: skip
        bins = pd.cut(rows.factor, FACTORS, right=True, include_lowest=True)
        out = []
        for edges, part in [*rows.groupby(bins, observed=True), (None, rows)]:
            name = "all" if edges is None else f"{max(edges.left, 1):g}x to {edges.right:g}x"
            out.append({
                "factor": name.replace(" to infx", " and more"), "cuts": part.below.nunique(),
                "runs": len(part), "median_error": part["size"].median(),
                "bias": part.bias.median(), f"held_{100 * self.level:.0f}": part.held.mean(),
                f"held_{100 * HALF:.0f}": part.held_half.mean(), "width": part.width.median(),
                "score": part.score.mean(),
            })  # fmt: skip
        return pd.DataFrame(out)

    @property
    def score(self) -> float:
        """Mean interval score, relative to what was measured; each cut counts alike."""
        scores = self.rows.assign(score=interval_score(self.rows, self.level))
        return float(scores.groupby("below").score.mean().mean())

    @property
    def sentence(self) -> str:
        """How it went, in one line."""
        cuts, held = self.rows.below.nunique(), int(self.rows.held.sum())
        half = int(self.rows.held_half.sum())
        return (
            f"Backtest by {self.by}, {self.law}: {cuts} cuts, {len(self.rows)} predictions up to "
            f"{self.rows.factor.max():.3g}x; {self.level:.0%} intervals hold {held} of them "
            f"({held / len(self.rows):.0%}), {HALF:.0%} intervals {half} "
            f"({half / len(self.rows):.0%}); median error "
            f"{100 * self.rows.error.abs().median():.2g} %."
        )


def interval_score(rows: pd.DataFrame, level: float) -> np.ndarray:
    """Width, and the distance of a run outside times 2 / (1 - level), relative to what was measured
    [rows] (Gneiting & Raftery 2007, J. Am. Statist. Assoc. 102, 359, eq. 43).
    """
    missed = np.maximum(rows.low - rows.measured, 0) + np.maximum(rows.measured - rows.high, 0)
    score = (rows.high - rows.low + 2 / (1 - level) * missed) / rows.measured.abs()
    return score.to_numpy()


def sizes_of(table: pd.DataFrame, by: str, loss: str) -> tuple[np.ndarray, np.ndarray]:
    """Size of each row, and whether it has a loss [rows]. Raises UserError when no row has both."""
    try:
        size, usable = numbers(table, by), np.isfinite(numbers(table, loss))
    except UserError as e:
        raise UserError(f"--holdout_by={by}: {e}") from None
    if not (usable & np.isfinite(size)).any():
        raise UserError(f"--holdout_by={by}: no row has both {by} and {loss}")
    return size, usable


def above(size: np.ndarray, level: float) -> np.ndarray:
    """Rows of at least that size, but for rounding [rows]; those without a size are below."""
    return np.isfinite(size) & (size >= level - SAME * abs(level))


def predicted(
    found: Fit, held: pd.DataFrame, size: np.ndarray, below: float
) -> tuple[pd.DataFrame, np.ndarray]:
    """A prediction of each held-out row, columns as in `Backtest.rows` but for the last; and its
    draws [draws, rows].
    """
    actual = numbers(held, found.loss)
    at = {name: numbers(held, column) for name, column in found.x.items()}
    mean, drawn = found.outcomes(at)
    low, high = interval(mean, drawn, found.level)
    low_half, high_half = interval(mean, drawn, HALF)
    rows = pd.DataFrame({
        "below": below, "n": found.n, "factor": size / below if below > 0 else np.nan,
        **{found.x[k]: v for k, v in at.items()}, "measured": actual, "predicted": mean,
        "error": mean / actual - 1, "low": low, "high": high, "low_half": low_half,
        "high_half": high_half, "held": (low <= actual) & (actual <= high),
        "held_half": (low_half <= actual) & (actual <= high_half),
    })  # fmt: skip
    return rows, drawn


def backtest(
    table: pd.DataFrame,
    law: str = "power_floor",
    options: Options | None = None,
    *,
    by: str | None = None,
    cuts: int = CUTS,
) -> Backtest:
    """Fit a law below each cut of a table and predict every row above it.

    Args:
      table: one row a run.
      law, options: as in `fit`.
      by: column that is cut; None: x (a law of one column), else flops where the table has them,
        else params.
      cuts: at most so many, where the column has more levels.

    Raises UserError when no cut leaves enough runs to fit.
    """
    from scaling.laws.fitting import fit as fit_law  # brings jax
    from scaling.laws.problem import room_for

    options = options or Options()
    options = replace(options, bootstrap=min(options.bootstrap, DRAWS))
    loss = options.loss or known_law(law).target
    by = by or column_of(table, law, options)
    size, usable = sizes_of(table, by, loss)
    parts, draws, refused = [], [], []
    shares = (np.arange(QUANTILES) + 0.5) / QUANTILES
    for level in _levels(size[usable & np.isfinite(size)], cuts):
        held = usable & above(size, level)
        below = size[usable & ~held & np.isfinite(size)]
        try:
            with room_for(len(table)):
                found = fit_law(
                    table[usable & ~held], law, options, checks=False, iterations=ITERATIONS
                )
                part, drawn = predicted(found, table[held], size[held], float(below.max()))
                parts.append(part.assign(row=np.flatnonzero(held)))
                draws.append(np.nanquantile(drawn, shares, axis=0))
        except UserError as e:
            refused.append(f"below {by} {units.human(level)}: {e}")
    if not parts:
        why = f": {refused[-1]}" if refused else f": all runs have the same {by}"
        raise UserError(f"--backtest by {by}: no cut can be fitted and predicted from{why}")
    rows = pd.concat(parts, ignore_index=True)
    return Backtest(law, by, options.level, rows, tuple(refused), np.concatenate(draws, axis=1))


def column_of(table: pd.DataFrame, law: str, options: Options) -> str:
    """The column whose growth is extrapolation."""
    if known_law(law).columns == ("x",):
        return options.x if isinstance(options.x, str) else options.x.get("x", "x")
    if "flops" in table.columns:
        return "flops"
    return "params" if isinstance(options.x, str) else options.x.get("params", "params")


def _levels(size: np.ndarray, cuts: int) -> np.ndarray:
    """Sizes at which a table is cut, the least left out [levels]."""
    found = np.unique(size)
    apart = np.diff(found, prepend=-np.inf) > RUNG * np.abs(found)
    found = found[apart][1:]
    if len(found) > cuts:
        shares = np.linspace(0, 1, cuts + 2)[1:-1]
        found = np.unique(np.quantile(size, shares, method="higher"))
    return found
