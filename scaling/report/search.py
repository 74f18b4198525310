"""What an outer search found: a page, a table and a figure.

Takes the trials as rows; writes `search.md`, `trials.csv`, `search.png` and `search.svg` into a
folder. Called by `scaling/commands/tuning.py`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from etils import epath
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from scaling import files
from scaling.report import style

_SHOWN = 10  # trials of the page's table
_FEW = 6  # values of an axis, each with its tick


def write(
    folder: epath.PathLike,
    *,
    title: str,
    question: str,
    axes: Sequence[str],
    logarithmic: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    best: int | None,
    share: float,
    in_vain: Sequence[str],
    confirmed: Sequence[float],
    hand: Mapping[str, Sequence[float]],
) -> epath.Path:
    """Write the files, and give the page's path.

    Args:
      axes: columns of `rows` that were searched, `logarithmic` of them by ratios.
      rows: a trial each, with trial, state, loss (at the last rung that it came to), step, steps,
        params, run.
      best: trial whose loss is the lowest of those that ended.
      share: of the FLOPs of all trials in full, what was trained.
      in_vain: why draws were not counted.
      confirmed: losses of the best with other seeds.
      hand: losses of the study's own runs, one a seed, by what tells them apart.
    """
    out = epath.Path(folder)
    files.make_directory(out)
    table = pd.DataFrame(list(rows))
    files.write_atomic(out / "trials.csv", table.to_csv(index=False).encode())
    with style.styled():
        figure = _figure(table, axes, logarithmic, best)
        for kind in ("png", "svg"):
            files.write_atomic(out / f"search.{kind}", style.encode(figure, kind))
    text = _page(title, question, axes, table, best, share, in_vain, confirmed, hand)
    files.write_atomic(out / "search.md", text.encode())
    return out / "search.md"


def _page(
    title: str,
    question: str,
    axes: Sequence[str],
    table: pd.DataFrame,
    best: int | None,
    share: float,
    in_vain: Sequence[str],
    confirmed: Sequence[float],
    hand: Mapping[str, Sequence[float]],
) -> str:
    ended = int((table["state"] == "done").sum())
    failed = int((table["state"] == "failed").sum())
    lines = [
        f"# {title}: search",
        "",
        question,
        "",
        f"{len(table)} trials, {ended} of them to their end"
        + (f", {failed} failed" if failed else "")
        + f"; {share:.0%} of the FLOPs that all of them in full would have taken"
        + (f"; {len(in_vain)} draws were known already or could not be" if in_vain else "")
        + ".",
        "",
        "![Losses of all trials](search.png)",
        "",
    ]
    if best is None:
        return "\n".join([*lines, "No trial came to its end with a finite loss.", ""])
    if confirmed and hand:
        lines += _against_hand(confirmed, hand)
    shown = table[table["state"] == "done"].sort_values("loss").head(_SHOWN)
    columns = ["trial", "loss", "params", *axes]
    lines += ["The best of those that ended:", "", _row(columns), _row(["---:"] * len(columns))]
    lines += [_row([_text(row[name]) for name in columns]) for _, row in shown.iterrows()]
    run = table.loc[table["trial"] == best, "run"].iloc[0]
    return "\n".join([*lines, "", f"The best is `{run}`; all trials are in `trials.csv`.", ""])


def _against_hand(confirmed: Sequence[float], hand: Mapping[str, Sequence[float]]) -> list[str]:
    lines = [
        "With seeds that the search has not seen, against the study's own runs (90 % intervals):",
        "",
        _row(["", "loss", "seeds", "best found minus this"]),
        _row(["---", "---:", "---:", "---:"]),
        _row(["best found", f"{np.mean(confirmed):.4f}", str(len(confirmed)), ""]),
    ]
    for name, losses in sorted(hand.items(), key=lambda item: float(np.mean(item[1]))):
        low, high = difference(confirmed, losses)
        away = float(np.mean(confirmed)) - float(np.mean(losses))
        said = f"{away:+.4f}"
        said += f" ({low:+.4f} to {high:+.4f})" if math.isfinite(low) else " (no interval)"
        lines.append(_row([name, f"{np.mean(losses):.4f}", str(len(losses)), said]))
    return [*lines, ""]


def difference(
    ours: Sequence[float], theirs: Sequence[float], level: float = 0.9
) -> tuple[float, float]:
    """Interval of the difference of two means, variances not taken as equal (Welch 1947); NaN where
    either has one value.
    """
    if min(len(ours), len(theirs)) < 2:
        return math.nan, math.nan
    found = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(level)
    return float(found.low), float(found.high)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _figure(
    table: pd.DataFrame, axes: Sequence[str], logarithmic: Sequence[str], best: int | None
) -> Figure:
    """Loss against the trial's number, and against each axis: who ended in full colour, who was
    left on the way as a small mark at the loss of its last rung.
    """
    panels = ["trial", *axes]
    columns = min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.4 * columns, 2.9 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    drawn = figure.subplots(lines, columns, sharey=True, squeeze=False)
    known = table[np.isfinite(table["loss"].astype(float))]
    ended, left = known[known["state"] == "done"], known[known["state"] != "done"]
    for place, (name, panel) in enumerate(zip(panels, drawn.flat, strict=False)):
        places = _places(table[name])
        for rows, look in (
            (left, {"ms": 4, "color": style.SKY, "label": "left on the way"}),
            (ended, {"ms": 6, "color": style.BLUE, "label": "to the end"}),
            (ended[ended["trial"] == best], {"ms": 8, "color": style.RED, "label": "best"}),
        ):
            panel.plot(places(rows[name]), rows["loss"], "o", mec=style.PAPER, mew=0.5, **look)
        if name == "trial" and len(ended):
            lowest = ended.sort_values("trial")
            panel.step(
                lowest["trial"], lowest["loss"].cummin(), where="post", color=style.INK, lw=1.2
            )
        if name in logarithmic:
            panel.set_xscale("log", base=2)
        elif not pd.api.types.is_numeric_dtype(table[name]):
            words = list(dict.fromkeys(table[name].map(str)))
            panel.set_xticks(range(len(words)), words)
        else:
            _ticks(panel, table[name].astype(float).dropna().unique())
        panel.set_xlabel(name)
        if place % columns == 0:
            panel.set_ylabel("validation loss")
    for panel in list(drawn.flat)[len(panels) :]:
        panel.set_visible(False)
    if len(known) > 3:
        low, high = known["loss"].min(), known["loss"].quantile(0.9)
        drawn.flat[0].set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    handles, labels = drawn.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)
    return figure


def _ticks(panel: Axes, values: np.ndarray) -> None:
    """On an even axis: the values where they are few, whole numbers where all are."""
    if len(values) <= _FEW:
        panel.set_xticks(sorted(values), [f"{value:g}" for value in sorted(values)])
    elif (values == np.round(values)).all():
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _places(column: pd.Series) -> Any:
    """Where values of a column stand on its axis: words beside each other."""
    if pd.api.types.is_numeric_dtype(column):
        return lambda values: values.astype(float)
    words = list(dict.fromkeys(column.map(str)))
    return lambda values: values.map(str).map(words.index)
