"""The honest test of an extrapolation: fit without the largest, predict it, compare.

`holdout` is the last cut of a backtest (`backtests.py`); it gives the fit, a prediction of each run
that was held out, and one sentence that says how it went. Called by the report and `selection.py`.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling import units
from scaling.errors import UserError
from scaling.laws.backtests import above, predicted, sizes_of
from scaling.laws.checks import known_law
from scaling.laws.options import Options
from scaling.laws.result import Fit
from scaling.laws.rows import groups_of, numbers


@dataclass(frozen=True)
class Holdout:
    """A fit on all but the largest, and how it predicted the largest."""

    fit: Fit
    held_out: pd.DataFrame  # the rows that were predicted
    rows: pd.DataFrame  # a prediction of each of them: columns as in `Backtest.rows`
    predicted: float  # loss, mean over the held-out points
    low: float  # interval, mean over them
    high: float
    actual: float  # mean loss of the held-out runs
    # Its standard error: between seeds if these alone differ, the fit's noise of a single run; None
    # for runs of several points, whose spread is no error.
    actual_se: float | None
    level: float
    within: bool
    sentence: str


def holdout(
    table: pd.DataFrame,
    law: str = "power_floor",
    options: Options | None = None,
    *,
    by: str | None = None,
) -> Holdout:
    """Fit a law to all runs but those of the largest `by`, and score it on those.

    Args:
      table: one row a run.
      law, options: as in `fit`.
      by: column whose largest value is held out; None: x (a law of one column), or params.

    Raises UserError when too few sizes are left to fit.
    """
    options = options or Options()
    x, loss = options.x, options.loss or known_law(law).target
    if by is None:
        by = x if isinstance(x, str) else x.get("params", "params")
    size, usable, out = split(table, by, loss)
    sized = usable & np.isfinite(size)
    largest, rest, unsized = size[out].max(), table[usable & ~out], int((usable & ~sized).sum())
    from scaling.laws.fitting import fit as fit_law  # brings jax

    fitted = fit_law(rest, law, options)
    held = table[out]
    below = size[sized & ~out]
    rows, _ = predicted(fitted, held, size[out], float(below.max()) if len(below) else np.nan)
    log = fitted.space == "log"

    def middle(values: pd.Series) -> float:
        return float(np.exp(np.log(values).mean()) if log else values.mean())

    foreseen, mean = middle(rows.predicted), middle(rows.measured)
    points = int(groups_of({c: numbers(held, c) for c in fitted.x.values()}).max()) + 1
    if len(held) == 1:
        sd = fitted.noise.replicate_sd or fitted.noise.sd
        error: float | None = sd * mean if log else sd
    elif points == 1:
        error = float(rows.measured.std(ddof=1) / len(held) ** 0.5)
    else:
        error = None
    low, high = float(rows.low.mean()), float(rows.high.mean())
    within = low <= mean <= high
    most = units.human(largest)
    upto, at_most = f"whose {by} is None", f"{most}"
    if len(below):
        upto = f"up to {by} {units.labels([below.max(), largest])[0]}"
        upto += f" ({unsized} of them with None)" if unsized else ""
        most = units.labels([below.max(), largest])[1]
        at_most = f"{most} ({largest / below.max():.1f}x)" if below.max() > 0 else most
    sentence = f"Fitted on {fitted.n} runs {upto}; at {at_most}, {law}: "
    if points > 1:
        sentence += (
            f"{int(rows.held.sum())} of {len(held)} runs lie within their {fitted.level:.0%} "
            "intervals; on the mean "
        )
    sentence += describe(loss, foreseen, low, high, fitted.level, mean, error)
    return Holdout(
        fitted, held, rows, foreseen, low, high, mean, error, fitted.level, within, sentence
    )


def split(table: pd.DataFrame, by: str, loss: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Size of each row, whether it has a loss, and whether it is one of the largest [rows].

    A run without a size is none of the largest: it is among the rest. Raises UserError when none
    is left to fit.
    """
    size, usable = sizes_of(table, by, loss)
    largest = size[usable & np.isfinite(size)].max()
    out = usable & above(size, largest)
    if out.sum() == usable.sum():
        raise UserError(
            f"--holdout_by={by}: all {int(out.sum())} runs have the same {by} ({largest:g}), so "
            "that none is left to fit"
        )
    return size, usable, out


def describe(
    what: str,
    predicted: float,
    low: float,
    high: float,
    level: float,
    actual: float,
    error: float | None = None,
) -> str:
    """One sentence on a prediction and what was measured."""
    within = low <= actual <= high
    about = "" if error is None else f" ± {error:.4f}"
    return (
        f"predicted {what} {predicted:.4f}, {level:.0%} interval {low:.4f} to {high:.4f}; measured "
        f"{actual:.4f}{about}, {'within' if within else 'outside'} the interval, "
        f"{100 * (actual / predicted - 1):+.2f} % off."
    )
