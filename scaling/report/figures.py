"""The figures of a study, each with the numbers that are drawn in it.

Takes the table of runs, their curves and a `Holdout` of `scaling/laws`; gives `Drawn`: a Figure, a
caption and a DataFrame. Called by `scaling/report/page.py`. Nothing is fitted here, and nothing
touches matplotlib's global state.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling import files
from scaling.laws import LAWS, Fit, Holdout
from scaling.records.conventions import MAIN
from scaling.report import style
from scaling.report.axes import Curve, curves_of, done, means
from scaling.report.style import INK, LINES, MARKERS, PAPER
from scaling.report.words import Words, measured, words_of


@dataclass(frozen=True)
class Drawn:
    """One finished figure."""

    name: str  # of its files
    title: str
    caption: str  # one or two sentences: what is to be seen
    figure: Figure
    data: pd.DataFrame  # what was drawn

    @functools.cached_property
    def svg(self) -> bytes:
        """The figure as SVG, which goes to a file and into the page."""
        return style.encode(self.figure, "svg")


def save(
    drawn: Drawn, folder: epath.PathLike, formats: Sequence[str] = ("svg", "png")
) -> list[epath.Path]:
    """Writes the figure in each format, and its numbers as `<name>.csv`."""
    folder = epath.Path(folder)
    files.make_directory(folder)
    content = {
        kind: drawn.svg if kind == "svg" else style.encode(drawn.figure, kind) for kind in formats
    }
    content["csv"] = drawn.data.to_csv(index=False).encode()
    for kind, data in content.items():
        files.write_atomic(folder / f"{drawn.name}.{kind}", data)
    return [folder / f"{drawn.name}.{kind}" for kind in content]


def loss_figure(
    frame: pd.DataFrame,
    x: str,
    fit: Fit | None = None,
    holdout: Holdout | None = None,
    by: Sequence[str] = (),
    log_x: bool = True,
) -> Drawn:
    """Final validation loss (the main metric) against `x`: every seed, the mean of each point, and
    the fit.

    The fit's band is where one more run would land; beyond the sizes fitted the line is dashed. The
    strip below shows the same relative to the law. With a `holdout`, its fit is drawn, and the
    largest point with the interval that was predicted for it. `by` names columns each of
    whose values is a line of its own: the first has the colours, the second the markers, the third
    the kinds of line. A second axis gives another metric that is one factor times the loss: bits
    per byte, when every run has the same bytes a token.
    """
    rows, data, words = done(frame, x), [], words_of(frame)
    fit = holdout.fit if holdout is not None else fit
    out = [] if holdout is None else list(holdout.held_out["name"])
    with style.styled():
        figure, (axes, *strip) = style.new_figure(strip=fit is not None)
        if fit is not None:
            data.append(_draw_fit(axes, rows, x, fit))
            _draw_strip(strip[0], rows, x, fit, data[0], out)
            data.append(_draw_truth(axes, rows, x, fit))
        if holdout is not None:
            data.append(_draw_prediction(axes, strip[0], rows[x].max(), x, holdout))
        curves = curves_of(frame, x, by)
        for curve, look in zip(curves, looks(curves), strict=True):
            part = curve.rows
            held = part["name"].isin(out)
            mean = "one run" if part[x].is_unique else "mean over seeds"
            name = curve.name or mean
            data.append(draw_points(axes, part[~held], x, name, **look, listed=not by))
            if held.any():
                name, red = "held out: measured", style.RED
                data.append(draw_points(axes, part[held], x, name, red, "D"))
        title = list_looks(axes, curves)
        drawn = pd.concat([d for d in data if not d.empty], ignore_index=True)
        style.count_axis(axes, list(rows[x]), log=log_x)
        bounds = drawn[[c for c in ("loss", "low", "high") if c in drawn]].to_numpy(float)
        style.loss_axis(axes, float(np.nanmin(bounds)), float(np.nanmax(bounds)))
        (strip or [axes])[0].set_xlabel(words.label(x))
        axes.set_ylabel(words.of_main("validation"))
        _second_axis(axes, rows, words)
        style.legend_below(figure, axes, title=title)
        style.finish(figure)
    against = f"{words.main.label} against {words.label(x)}"
    caption = f"Final validation {against}; small open points are single runs."
    if fit is not None:
        caption += f" The band is the {fit.level:.0%} interval for one more run"
        caption += ", the strip the same as a distance from the law."
    if holdout is not None:
        caption += " The line is fitted without the largest point."
    title = f"{words.title} against {words.label(x)}"
    return Drawn(f"loss-{file_of(x)}", title, caption, figure, drawn)


_BAND: dict[str, Any] = {"color": style.BLUE, "alpha": 0.16, "lw": 0}
_BAR: dict[str, Any] = {
    **{"color": style.RED, "fmt": "_", "ms": 12, "mew": 2, "capsize": 5, "zorder": 4},
}


def _draw_fit(axes: Axes, rows: pd.DataFrame, x: str, fit: Fit) -> pd.DataFrame:
    last, (low, high) = fit.ranges["x"][1], (rows[x].min(), rows[x].max())
    room = (high / low) ** 0.04
    end = high * room if high > last else high
    grid = np.unique([*np.geomspace(low / room, end, 30), last, high])
    curve = fit.predict(grid)
    # The line is the law's own; a run's interval knows that the form may be wrong, and has a middle
    # of its own.
    law = fit.predict(grid, kind="mean").mean
    inside, beyond = grid <= last, grid >= last
    axes.fill_between(
        grid, curve.low, curve.high, label=f"{fit.level:.0%} interval of a run", **_BAND
    )
    axes.plot(grid[inside], law[inside], color=style.BLUE, label="fitted law")
    dashed: dict[str, Any] = {"color": style.BLUE, "ls": (0, (4, 3))}
    if high > last:
        axes.plot(grid[beyond], law[beyond], label="extrapolated", **dashed)
    columns = {x: grid, "loss": law, "low": curve.low, "high": curve.high}
    return pd.DataFrame(columns).assign(what="fit")


def _draw_truth(axes: Axes, rows: pd.DataFrame, x: str, fit: Fit) -> pd.DataFrame:
    """What is known of the law of the data: its exponent and its floor, laid through the runs; or
    the floor alone. Nothing where neither is known.
    """
    law, known = LAWS[fit.law], fit.known.values
    floor = 0.0 if law.floor is None else known.get(law.floor, (None, 0.0))[0]
    slope = next((known[name][0] for name in law.exponents if name in known), None)
    if floor is None or (slope is None and law.floor is None) or len(law.columns) > 1:
        return pd.DataFrame()
    grid = np.geomspace(rows[x].min(), rows[x].max(), 30)
    above = rows["loss"] - floor
    if slope is not None and (above > 0).all():
        # The factor is the runs': theory says the power.
        curve = floor + np.exp(np.mean(np.log(above * rows[x] ** slope))) * grid**-slope
        label = f"known exponent {slope:.3g}" + (f", floor {floor:.4g}" if law.floor else "")
    elif floor > 0.5 * rows["loss"].min():  # farther down it would say nothing of the runs
        curve, label = np.full_like(grid, floor), f"known floor {floor:.4g}"
    else:
        return pd.DataFrame()
    axes.plot(grid, curve, color=style.ORANGE, ls=(0, (1, 1.5)), lw=2, label=label)
    return pd.DataFrame({x: grid, "loss": curve}).assign(what="known")


def _off(fit: Fit, values: Any, at: Any) -> np.ndarray:
    """Losses at `at` as distances from the law, in percent of it."""
    law = fit.predict(np.asarray(at, float), kind="mean").mean
    return 100 * (np.asarray(values, float) / law - 1)


def _draw_strip(
    axes: Axes, rows: pd.DataFrame, x: str, fit: Fit, line: pd.DataFrame, out: list[str]
) -> None:
    low, high = (_off(fit, line[side], line[x]) for side in ("low", "high"))
    axes.fill_between(line[x], low, high, **_BAND)
    axes.axhline(0, color=style.BLUE, lw=1.2)
    held = rows["name"].isin(out)
    for part, colour, marker in ((rows[~held], style.BLUE, "o"), (rows[held], style.RED, "D")):
        if part.empty:
            continue
        mean = means(part, x)
        axes.plot(part[x], _off(fit, part["loss"], part[x]), "o", ms=4, mfc="none", mec=colour)
        axes.plot(mean[x], _off(fit, mean["mean"], mean[x]), marker, ms=6, color=colour, mec=PAPER)
    axes.set_ylabel("off the law (%)")
    axes.margins(y=0.12)


def _draw_prediction(axes: Axes, strip: Axes, at: float, x: str, holdout: Holdout) -> pd.DataFrame:
    predicted, low, high = holdout.predicted, holdout.low, holdout.high
    bar = [[predicted - low], [high - predicted]]
    axes.errorbar([at], [predicted], yerr=bar, label="held out: predicted", **_BAR)
    strip.errorbar([at], [0.0], yerr=100 * np.array(bar) / predicted, **_BAR)
    row = {x: at, "loss": predicted, "low": low, "high": high, "what": "held out: predicted"}
    return pd.DataFrame([row])


def looks(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """Colour, marker and line of each curve."""
    if len(curves) == 1:
        return [{"colour": style.BLUE, "marker": "o", "line": "-" if curves[0].by else "none"}]
    colours = style.ramp(1 + max(curve.places[0] for curve in curves))
    found = []
    for curve in curves:
        first, second, third = (*curve.places, 0, 0)[:3]
        found.append(
            {
                "colour": colours[first],
                "marker": MARKERS[second % len(MARKERS)],
                "line": LINES[third % len(LINES)],
            }
        )
    return found


def list_looks(axes: Axes, curves: Sequence[Curve]) -> str | None:
    """Entries of the legend for what tells curves apart, field after field; its title, where that
    is one field.
    """
    by, words = curves[0].by, words_of(curves[0].rows)
    seen: dict[tuple[int, int], tuple[str, dict[str, Any]]] = {}
    for curve, look in zip(curves, looks(curves), strict=True):
        for depth, (place, text) in enumerate(zip(curve.places, curve.labels, strict=True)):
            seen.setdefault((depth, place), (text, look))
    for (depth, _), (text, look) in sorted(seen.items(), key=lambda entry: entry[0]):
        shows: dict[str, Any] = {"color": look["colour"] if depth == 0 else INK, "mec": PAPER}
        shows |= {"marker": look["marker"] if depth == 1 or len(by) == 1 else "none", "ms": 7}
        shows |= {"ls": "none" if depth == 1 else look["line"] if depth == 2 else "-"}
        axes.plot([], [], label=text if len(by) == 1 else words.named(by[depth], text), **shows)
    return words.label(by[0]) if len(by) == 1 else None


def draw_points(
    axes: Axes,
    rows: pd.DataFrame,
    x: str,
    name: str,
    colour: str,
    marker: str = "o",
    line: str = "none",
    listed: bool = True,
) -> pd.DataFrame:
    """Every seed, and the mean of each point, `listed` in the legend as `name`; what was drawn."""
    mean = means(rows, x)
    seeds = rows[rows[x].isin(mean[x][mean["count"] > 1])]
    axes.plot(seeds[x], seeds["loss"], "o", ms=4, mfc="none", mec=colour, alpha=0.8)
    look: dict[str, Any] = {"ms": 7, "color": colour, "mec": PAPER, "zorder": 5}
    look |= {"label": name} if listed else {}
    axes.plot(mean[x], mean["mean"], marker=marker, ls=line, **look)
    single = pd.DataFrame({x: rows[x], "loss": rows["loss"], "seed": rows["seed"], "what": "run"})
    many = pd.DataFrame({x: mean[x], "loss": mean["mean"], "runs": mean["count"], "what": name})
    return pd.concat([single, many])


def _second_axis(axes: Axes, rows: pd.DataFrame, words: Words) -> None:
    """A second vertical axis in the first other metric that is one factor times the loss."""
    others = [c for c in words.metrics if c != MAIN and c in rows and rows["loss"].nunique() > 1]
    ratios = {c: (rows[c] / rows["loss"]).to_numpy(float) for c in others}
    fixed = [c for c, r in ratios.items() if r[0] > 0 and np.ptp(r) <= 1e-6 * r[0]]
    if not fixed:
        return
    factor = float(ratios[fixed[0]][0])
    there, back = (lambda loss: loss * factor), (lambda other: other / factor)
    second = axes.secondary_yaxis("right", functions=(there, back))
    second.set_ylabel(measured(words.metrics[fixed[0]]))
    low, high = axes.get_ylim()
    ticks = style.round_ticks(low * factor, high * factor)
    second.yaxis.set_major_locator(style.FixedLocator(ticks))
    second.yaxis.set_minor_locator(style.NullLocator())
    second.yaxis.set_major_formatter(style.FuncFormatter(lambda value, _: f"{value:.4g}"))


def file_of(column: str) -> str:
    """What stands for a column in the names of files."""
    return column.replace(".", "-").replace("_", "-").replace("/", "-")
