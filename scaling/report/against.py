"""What goes with the validation loss: other sets' losses, and what else is measured of a run.

Loss on other data often lies on one line over loss on held-out data, whatever the model's size
(Miller et al. 2021, Accuracy on the line, arXiv 2107.04649); what is measured of answers is often a
curve over the loss. Takes the table of runs; gives `Drawn`s. Called by `build.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy import stats

from scaling.records.conventions import MAIN, of_pass
from scaling.report import style
from scaling.report.axes import done, varies
from scaling.report.figures import Drawn
from scaling.report.sets import TRAINED, sets_of
from scaling.report.style import COLOURS, MARKERS, PAPER
from scaling.report.words import measured, words_of

LEAST = 8  # runs that have ended
LEVEL = 0.9


@dataclass(frozen=True)
class Line:
    """log(loss of a set) = intercept + slope log(loss), and what size adds to it."""

    slope: float
    spread: float  # standard deviation of what is left, of the logarithm
    # d log(loss of the set) / d log(x) at equal loss, and half its interval; NaN where x says
    # nothing that the loss does not
    drift: float
    half: float

    def said(self, name: str, x: str) -> str:
        """One sentence."""
        text = f"{name}: slope {self.slope:.2f}, off the line by {self.spread:.1%} (SD)"
        if not np.isfinite(self.drift) or not np.isfinite(self.half):
            return f"{text}."
        more = [np.expm1((self.drift + sign * self.half) * np.log(10)) for sign in (-1, 0, 1)]
        at = f"ten times the {x} at equal loss change it by {more[1]:+.1%}"
        on = "on the line" if more[0] <= 0 <= more[2] else "off the line"
        return f"{text}; {at} ({LEVEL:.0%} interval {more[0]:+.1%} to {more[2]:+.1%}): {on}."


def line_of(loss: np.ndarray, other: np.ndarray, x: np.ndarray) -> Line:
    """By least squares of logarithms, positive numbers [N] each; the interval of the drift by
    Student's t of the fit on both.
    """
    log_loss, log_other, log_x = (np.log(values) for values in (loss, other, x))
    slope, intercept = np.polyfit(log_loss, log_other, 1)
    left = log_other - intercept - slope * log_loss
    spread = float(np.sqrt(np.sum(left**2) / max(1, len(left) - 2)))
    both = np.stack([np.ones_like(log_loss), log_loss, log_x], axis=1)
    free = len(left) - both.shape[1]
    if free < 1 or np.linalg.matrix_rank(both, tol=1e-8) < both.shape[1]:
        return Line(float(slope), spread, float("nan"), float("nan"))
    found, *_ = np.linalg.lstsq(both, log_other, rcond=None)
    variance = np.sum((log_other - both @ found) ** 2) / free
    error = np.sqrt(variance * np.linalg.inv(both.T @ both)[2, 2])
    half = stats.t.ppf((1 + LEVEL) / 2, free) * error
    return Line(float(slope), spread, float(found[2]), float(half))


def against_figures(frame: pd.DataFrame, x: str) -> Iterator[Drawn]:
    """A figure of the losses of all other sets over the validation loss, and one of each thing that
    a pass measures over it. None of fewer than `LEAST` runs.
    """
    rows, words = done(frame, x), words_of(frame)
    rows = rows[rows["loss"] > 0]
    if len(rows) < LEAST or not varies(frame, x) or rows["loss"].nunique() < LEAST:
        return
    sets = {
        column: name
        for column, name in sets_of(rows, x).items()
        if column != MAIN and name not in TRAINED and (rows[column] > 0).all()
    }
    if sets:
        label = words.label(x)
        sentences = [
            line_of(*(rows[c].to_numpy(float) for c in ("loss", column, x))).said(name, label)
            for column, name in sets.items()
            if (rows[x] > 0).all()
        ]
        caption = f"Every run: {words.main.label} on other sets against that on validation. "
        yield _figure(
            "shift", "Other data at equal loss", caption + " ".join(sentences), rows, sets
        )
    passes = {c: found for c in rows if (found := of_pass(c)) and rows[c].notna().sum() >= LEAST}
    for metric in dict.fromkeys(c.partition("/")[0] for c in passes):
        names = {c: of[1] for c, of in passes.items() if c.startswith(f"{metric}/")}
        known = passes[next(iter(names))][0]
        title = f"{known.label[:1].upper()}{known.label[1:]} at each loss"
        caption = f"Every run: {known.label} against validation {words.main.label}."
        yield _figure(f"{metric}_by_loss", title, caption, rows, names, measured(known))


def _figure(
    name: str,
    title: str,
    caption: str,
    rows: pd.DataFrame,
    columns: Mapping[str, str],
    label: str | None = None,
) -> Drawn:
    """`label` of the vertical axis; None: it is the loss of other sets, over logarithmic axes."""
    words, drawn = words_of(rows), []
    with style.styled():
        figure, (axes,) = style.new_figure()
        for place, (column, said) in enumerate(columns.items()):
            # Validation has the first colour and the training set the second, in every figure.
            colour, marker = COLOURS[(place + 2) % len(COLOURS)], MARKERS[place % len(MARKERS)]
            axes.plot(rows["loss"], rows[column], marker, color=colour, mec=PAPER, label=said)
            drawn.append(pd.DataFrame({"loss": rows["loss"], "set": said, name: rows[column]}))
        axes.set_xlabel(words.of_main("validation"))
        axes.set_ylabel(label or words.of_main())
        if label is None:
            _logarithmic(axes, rows["loss"], rows[list(columns)])
        style.legend_below(figure, axes)
        style.finish(figure)
    return Drawn(name, title, caption, figure, pd.concat(drawn, ignore_index=True))


def _logarithmic(axes: Axes, loss: pd.Series, others: pd.DataFrame) -> None:
    axes.set(xscale="log", yscale="log")
    for axis, values in ((axes.xaxis, loss), (axes.yaxis, others)):
        low, high = float(np.min(values)), float(np.max(values))
        ticks = style.round_ticks(low, high) if high < 10 * low else style.log_ticks(low, high)
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_ticks([], minor=True)
