"""The honest test of an extrapolation: fit without the largest, predict it, compare.

`holdout` is called by the report and by `selection.py`; it gives the fit, the prediction with its
interval, what was measured, and one sentence that says how it went.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling import units
from scaling.errors import UserError
from scaling.laws.checks import known_law
from scaling.laws.options import Options
from scaling.laws.result import Fit
from scaling.laws.rows import numbers


@dataclass(frozen=True)
class Holdout:
    """A fit on all but the largest, and how it predicted the largest."""

    fit: Fit
    held_out: pd.DataFrame  # the rows that were predicted
    predicted: float  # loss, mean over the held-out points
    low: float  # interval of the mean of the held-out runs
    high: float
    actual: float  # mean loss of the held-out runs
    actual_se: float  # its standard error: between seeds if several, else the fit's noise
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
    actual = held[loss].to_numpy(float)
    log = fitted.space == "log"
    at = {name: numbers(held, column) for name, column in fitted.x.items()}
    prediction = fitted.predict(at)
    predicted = float(np.exp(np.log(prediction.mean).mean()) if log else prediction.mean.mean())
    mean = float(np.exp(np.log(actual).mean()) if log else actual.mean())
    if len(actual) > 1:
        error = float(actual.std(ddof=1) / len(actual) ** 0.5)
    else:
        sd = fitted.noise.replicate_sd or fitted.noise.sd
        error = sd * mean if log else sd
    low, high = float(prediction.low.mean()), float(prediction.high.mean())
    within = low <= mean <= high
    below, most = size[sized & ~out], units.human(largest)
    upto, at_most = f"whose {by} is None", f"{most}"
    if len(below):
        upto = f"up to {by} {units.labels([below.max(), largest])[0]}"
        upto += f" ({unsized} of them with None)" if unsized else ""
        most = units.labels([below.max(), largest])[1]
        at_most = f"{most} ({largest / below.max():.1f}x)" if below.max() > 0 else most
    sentence = f"Fitted on {fitted.n} runs {upto}; at {at_most}, {law}: " + describe(
        loss, predicted, low, high, fitted.level, mean, error
    )
    return Holdout(fitted, held, predicted, low, high, mean, error, fitted.level, within, sentence)


def split(table: pd.DataFrame, by: str, loss: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Size of each row, whether it has a loss, and whether it is one of the largest [rows].

    A run without a size is none of the largest: it is among the rest. Raises UserError when none
    is left to fit.
    """
    try:
        size, usable = numbers(table, by), np.isfinite(numbers(table, loss))
    except UserError as e:
        raise UserError(f"--holdout_by={by}: {e}") from None
    sized = usable & np.isfinite(size)
    if not sized.any():
        raise UserError(f"--holdout_by={by}: no row has both {by} and {loss}")
    largest = size[sized].max()
    # Runs of one rung differ by rounding at most.
    out = sized & (size >= largest - 1e-9 * abs(largest))
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
