"""The figure of samples that were judged: their distance from the data, against what runs vary.

Takes the table of runs; gives `Drawn`s, as `figures.py` does. Called by `build.py`.
"""

from collections.abc import Iterator, Sequence

import pandas as pd

from scaling.records.rows import JUDGED
from scaling.report import style
from scaling.report.axes import curves_of, varies
from scaling.report.figures import Drawn, draw_points, list_looks, looks
from scaling.report.words import words_of

_TRAINED, _, _REAL, _ = JUDGED


def judged_figures(
    frame: pd.DataFrame, x: str, log_x: bool = True, by: Sequence[str] = ()
) -> Iterator[Drawn]:
    """The distance of samples against `x`, a line for each of the curves that the columns `by` tell
    apart, and that of as many examples of the training set. Nothing where no run was judged.
    """
    if _TRAINED not in frame or not varies(frame, x):
        return
    rows = frame[frame[_TRAINED].notna()]
    with style.styled():
        figure, (axes,) = style.new_figure()
        curves, data = curves_of(rows, x, by), []
        for curve, look in zip(curves, looks(curves), strict=True):
            drawn = curve.rows.assign(loss=curve.rows[_TRAINED])
            name = curve.name or "samples"
            data.append(draw_points(axes, drawn, x, name, **look, listed=not by))
        title = list_looks(axes, curves) if by else None
        real = float(rows[_REAL].mean())
        axes.axhline(
            real, color=style.INK, lw=1, ls=(0, (2, 2)), label="images of the training set"
        )
        found = pd.concat(data, ignore_index=True).rename(columns={"loss": _TRAINED})
        style.count_axis(axes, rows[x].tolist(), log=log_x)
        bounds = [*found[_TRAINED], real]
        style.loss_axis(axes, min(bounds), max(bounds))
        axes.set_xlabel(words_of(rows).label(x))
        axes.set_ylabel("distance of the judge's features")
        style.legend_below(figure, axes, title=title)
        style.finish(figure)
    caption = "Fréchet distance of samples from held-out images, by the features of the judge; "
    caption += "the dashed line is that of as many images of the training set."
    yield Drawn("samples", "Distance of samples", caption, figure, found)
