"""Figures of the evaluation sets beside validation: their losses, and how far from training.

Takes the table of runs; gives `Drawn`s, as `figures.py` does. Called by `build.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from scaling.records.conventions import of_pass
from scaling.report import style
from scaling.report.axes import Curve, curves_of, done, means, varies
from scaling.report.figures import Drawn
from scaling.report.style import COLOURS, INK, MARKERS, PAPER
from scaling.report.words import measured, words_of

TRAINED = TRAIN_SET, TRAIN_BATCHES = "training set", "last train batches"


def sets_figure(
    frame: pd.DataFrame, x: str, log_x: bool = True, by: Sequence[str] = ()
) -> Drawn | None:
    """Loss on every evaluation set and in training against `x`, means over seeds: a line a set, and
    for each of the curves that the columns `by` tell apart.

    None when validation is all there is.
    """
    names, words = sets_of(frame, x), words_of(frame)
    if len(names) < 3:
        return None
    with style.styled():
        figure, (axes,) = style.new_figure()
        drawn = _draw_sets(axes, curves_of(frame, x, by), x, names, log_x)
        style.loss_axis(axes, float(drawn["loss"].min()), float(drawn["loss"].max()))
        axes.set_ylabel(words.of_main())
        style.legend_below(figure, axes)
        style.finish(figure)
    caption = f"Final {words.main.label} on each evaluation set and in training, mean over seeds."
    return Drawn("sets", "Other evaluation sets", caption, figure, drawn)


def gap_figure(
    frame: pd.DataFrame, x: str, log_x: bool = True, by: Sequence[str] = ()
) -> Drawn | None:
    """How far each evaluation set lies from the training loss, against `x`, as `sets_figure`.

    None when the training set was not evaluated and validation is all there is.
    """
    names = sets_of(frame, x)
    if len(names) < 3:
        return None
    words = words_of(frame)
    train, name = next((c, n) for c, n in names.items() if n in TRAINED)
    gaps = frame.assign(**{column: frame[column] - frame[train] for column in names})
    # Whether a run has ended is told by its loss, not by a gap.
    gaps = gaps[frame["loss"].notna()]
    with style.styled():
        figure, (axes,) = style.new_figure()
        kept = {column: n for column, n in names.items() if column != train}
        drawn = _draw_sets(axes, curves_of(gaps, x, by), x, kept, log_x)
        axes.axhline(0, color=INK, lw=1, ls=(0, (2, 2)))
        axes.set_ylabel(measured(replace(words.main, label=f"{words.main.label} minus {name}")))
        style.legend_below(figure, axes)
        style.finish(figure)
    caption = (
        f"Distance of each set's {words.main.label} from that of the {name}, mean over seeds; "
    )
    caption += "the dashed line is no gap."
    return Drawn("gap", "Train-test gap", caption, figure, drawn.rename(columns={"loss": "gap"}))


def sets_of(frame: pd.DataFrame, x: str) -> dict[str, str]:
    """Column of the table -> what it is called; the training loss is always among them."""
    rows = done(frame, x)
    further = [c for c in frame if c.startswith("loss/") and rows[c].notna().any()]
    evaluated = [c for c in further if rows[c].equals(rows["train_loss"])]
    train = {evaluated[0]: TRAIN_SET} if evaluated else {"train_loss": TRAIN_BATCHES}
    rest = {c: c.removeprefix("loss/") for c in further if c not in train}
    return {"loss": "validation", **train, **rest} if further and varies(frame, x) else {}


def pass_figures(
    frame: pd.DataFrame, x: str, log_x: bool = True, by: Sequence[str] = ()
) -> Iterator[Drawn]:
    """What evaluation sets measure that are not evaluated by rows (`scaling/config/passes.py`): a
    figure a metric, as `sets_figure`.
    """
    found = {column: of for column in frame if (of := of_pass(column))} if varies(frame, x) else {}
    for metric in dict.fromkeys(column.partition("/")[0] for column in found):
        names = {c: of[1] for c, of in found.items() if c.startswith(f"{metric}/")}
        known = found[next(iter(names))][0]
        with style.styled():
            figure, (axes,) = style.new_figure()
            drawn = _draw_sets(axes, curves_of(frame, x, by), x, names, log_x)
            drawn = drawn.rename(columns={"loss": metric})
            axes.set_ylabel(measured(known))
            style.legend_below(figure, axes)
            style.finish(figure)
        title = f"{known.label[:1].upper()}{known.label[1:]}"
        caption = f"Final {known.label} on the sets that measure it, mean over seeds."
        yield Drawn(metric, title, caption, figure, drawn)


def _draw_sets(
    axes: Axes, curves: Sequence[Curve], x: str, names: Mapping[str, str], log_x: bool
) -> pd.DataFrame:
    """Sets are told apart by colour; curves, where there are several, by marker, and where markers
    do not suffice, in the numbers drawn alone.
    """
    data, several = [], len(curves) > 1
    marked = len(curves) <= len(MARKERS)
    for place, (column, name) in enumerate(names.items()):
        # A set keeps its colour in both figures: validation is first, the training set second.
        place = place + (place > 0 and not {*TRAINED} & {*names.values()})
        colour = COLOURS[place % len(COLOURS)]
        look: dict[str, Any] = {"color": colour, "mec": PAPER} | ({} if marked else {"lw": 1})
        if several:
            axes.plot([], [], label=name, **look)
        for number, curve in enumerate(curves):
            marker = MARKERS[(number if several else place) % len(MARKERS)] if marked else "none"
            mean = means(curve.rows, x, column)
            text: dict[str, Any] = {} if several else {"label": name}
            axes.plot(mean[x], mean["mean"], marker=marker, **look, **text)
            part = pd.DataFrame({x: mean[x], "set": name, "loss": mean["mean"]})
            data.append(part.assign(curve=curve.name) if several else part)
    for curve, marker in zip(curves if several and marked else (), MARKERS, strict=False):
        axes.plot([], [], marker, color=INK, mec=PAPER, label=curve.name)
    style.count_axis(axes, pd.concat([curve.rows[x] for curve in curves]).tolist(), log=log_x)
    axes.set_xlabel(words_of(curves[0].rows).label(x))
    return pd.concat(data, ignore_index=True)
