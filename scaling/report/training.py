"""The figure of training: the main metric over the data seen, a line a run.

Takes the table of runs and their curves (`scaling.records.tables.curves`); gives a `Drawn`, as
`figures.py` does. Called by `build.py`.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from scaling.report import style
from scaling.report.figures import Drawn
from scaling.report.style import PAPER
from scaling.report.words import words_of

DRAWN_LINES = 12  # more curves than this are told apart by a colour bar


def curves_figure(curves: Mapping[str, pd.DataFrame], frame: pd.DataFrame, x: str) -> Drawn | None:
    """Training loss against the amount seen, one line a run, coloured by `x`; None without any
    curve.

    Lines are running means (see `_smooth`); points are the validation loss.
    """
    runs = frame[[n in curves and "loss" in curves[n] for n in frame["name"]]].sort_values(x)
    lines = np.array([not curves[n].empty for n in runs["name"]], bool)
    runs = runs[lines & runs[x].notna().to_numpy()]
    if runs.empty:
        return None
    words, values = words_of(frame), sorted(runs[x].unique())
    names, amount = dict(zip(values, words.texts(x, values), strict=True)), words.amount
    colour_of = dict(zip(values, style.ramp(len(values)), strict=True))
    data = []
    with style.styled():
        figure, (axes,) = style.new_figure()
        labelled: set[float] = set()
        for run in runs.itertuples():
            value = getattr(run, x) if x.isidentifier() else runs.loc[run.Index, x]
            curve = curves[run.name]
            curve = curve[(curve["step"] > 0) & np.isfinite(curve["loss"])]
            train, val = (curve[curve["split"] == split] for split in ("train", "val"))
            smooth = _smooth(train[amount].to_numpy(float), train["loss"].to_numpy(float))
            name = None if value in labelled else names[value]
            labelled.add(value)
            colour = colour_of[value]
            axes.plot(train[amount], smooth, color=colour, lw=1.2, alpha=0.85, label=name)
            axes.plot(val[amount], val["loss"], "o", color=colour, ms=4, mec=PAPER, mew=0.5)
            smooth_column = pd.Series(smooth, index=train.index)
            shown = ["run", "step", amount, "split", "loss", "smooth"]
            data.append(curve.assign(run=run.name, smooth=smooth_column)[shown])
        drawn = pd.concat(data, ignore_index=True)
        style.count_axis(axes, list(drawn[amount]))
        losses = drawn["smooth"].fillna(drawn["loss"])
        style.loss_axis(axes, float(losses.min()), float(losses.max()))
        axes.set_xlabel(f"{words.label(amount)} seen")
        axes.set_ylabel(words.of_main())
        if len(values) <= DRAWN_LINES:
            style.legend_below(figure, axes, title=words.label(x))
        style.finish(figure)
    caption = f"Running mean of the training {words.main.label} (lines) and validation "
    caption += f"{words.main.label} (points) of every run, dark to light by {words.label(x)}."
    return Drawn("curves", "Training curves", caption, figure, drawn)


def _smooth(amount: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Mean loss between 0.85 and 1.15 times the amount: an even width on a log axis."""
    sums = np.concatenate([[0.0], np.cumsum(loss)])
    low = np.searchsorted(amount, 0.85 * amount, side="left")
    high = np.searchsorted(amount, 1.15 * amount, side="right")
    return (sums[high] - sums[low]) / (high - low)
