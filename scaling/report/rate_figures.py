"""Figures of a study over the learning rate: the curves with their best rates, and these over size.

Takes a `RateFinding` (`optimum.py`); gives `Drawn`s, as `figures.py` does. Called by `build.py`.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from scaling.report import style
from scaling.report.axes import means
from scaling.report.figures import Drawn, file_of, list_looks, looks
from scaling.report.optimum import RateFinding
from scaling.report.style import INK, PAPER, RED


def valleys_figure(finding: RateFinding, log_x: bool = True) -> Drawn:
    """How far each run is from the best of its curve, above the minimum or below the maximum, with
    the fitted curves and intervals. In percent of the best, or as it is where a run has zero.
    """
    words, curves, data = finding.words, finding.curves, list[pd.DataFrame]()
    pairs = zip(curves, finding.optima, strict=True)
    relative = all((curve.rows["loss"] * best.loss > 0).all() for curve, best in pairs)
    rate, extreme = words.label(finding.x), finding.extreme
    tops = [1.0 if relative else 1e-3]
    away, sign = ("below", -1) if words.higher else ("above", 1)
    column = f"{away}_percent" if relative else away
    with style.styled():
        figure, (axes, *_) = style.new_figure()
        for curve, best, look in zip(curves, finding.optima, looks(curves), strict=True):
            colour, x = look["colour"], curve.rows[finding.x].to_numpy(float)
            scale = 100 * sign / abs(best.loss) if relative else sign
            above = scale * (curve.rows["loss"].to_numpy(float) - best.loss)
            axes.plot(x, above, look["marker"], color=colour, ms=5, mec=PAPER, mew=0.5)
            part = pd.DataFrame({"curve": curve.name, finding.x: x, column: above})
            data.append(part.assign(what="run"))
            if best.refused:
                tops.append(float(np.median(above)))
                mean = means(curve.rows, finding.x)
                off = scale * (mean["mean"] - best.loss)
                axes.plot(mean[finding.x], off, color=colour, lw=1.2, ls=(0, (1, 1.5)))
                axes.plot(best.rate, 0.0, "x", color=RED, ms=8, mew=2, zorder=6)
            else:
                grid = np.geomspace(*best.fitted, 60)
                line = scale * (best.at(grid) - best.loss)
                inside = (x >= best.fitted[0]) & (x <= best.fitted[1])
                tops.append(float(above[inside].max()))
                axes.plot(
                    grid,
                    line,
                    color=colour,
                    lw=1.4,
                    ls=look["line"] if len(curves[0].by) > 2 else "-",
                )
                axes.plot(best.rate, 0.0, "*", color=colour, ms=13, mec=INK, mew=0.7, zorder=6)
            row = {"curve": curve.name, finding.x: best.rate, column: 0.0}
            row |= {"low": best.low, "high": best.high}
            data.append(pd.DataFrame([row | {"what": best.refused or best.wide or extreme}]))
        title = list_looks(axes, curves) if curves[0].by else None
        axes.plot([], [], "*", color=PAPER, ms=12, mec=INK, ls="", label=extreme)
        if any(best.refused for best in finding.optima):
            axes.plot([], [], "x", color=RED, ms=8, mew=2, ls="", label="none: best tried")
        _intervals(axes, finding, max(tops))
        style.count_axis(axes, pd.concat(data)[finding.x].tolist(), log=log_x)
        axes.set_ylim(-0.24 * max(tops), 1.15 * max(tops))
        axes.axhline(0, color=INK, lw=0.8)
        axes.set_xlabel(rate)
        percent = " (%)" if relative else ""
        axes.set_ylabel(f"{words.main.label} {away} the curve's {extreme}{percent}")
        style.legend_below(figure, axes, title=title)
        style.finish(figure)
    level = finding.optima[0].level
    caption = (
        f"Each run's final {words.main.label} {away} the {extreme} of its curve; stars are the "
        f"{finding.extremes} of the fitted curves, the bars below their {level:.0%} intervals. "
        f"Runs far {'from it' if words.higher else 'above'} are cut off."
    )
    drawn = pd.concat(data, ignore_index=True)
    return Drawn(f"best-{file_of(finding.x)}", f"Best {rate}", caption, figure, drawn)


def _intervals(axes: Any, finding: RateFinding, top: float) -> None:
    """A bar for each interval, under the zero line, one below the other."""
    known = [i for i, best in enumerate(finding.optima) if math.isfinite(best.low)]
    looked = looks(finding.curves)
    for line, i in enumerate(known):
        best, depth = finding.optima[i], -0.2 * top * (line + 1) / (len(known) + 0.5)
        axes.plot([best.low, best.high], [depth, depth], color=looked[i]["colour"], lw=3)
        axes.plot([best.rate], [depth], "|", color=INK, ms=6)


def law_figure(finding: RateFinding) -> Drawn | None:
    """The best rate against size, with intervals, and the law's line and band; None without one."""
    if finding.size is None or not any(not best.refused for best in finding.optima):
        return None
    words, data = finding.words, list[Mapping[str, Any]]()
    columns: dict[str, Any] = {"rate": [], "size": []}
    with style.styled():
        figure, (axes, *_) = style.new_figure()
        for number, (name, law) in enumerate(finding.laws):
            colour = style.COLOURS[number % len(style.COLOURS)]
            grid = np.geomspace(law.sizes[0] / 1.15, law.sizes[1] * 1.15, 40)
            mean, low, high = law.at(grid)
            text = f"fitted law, exponent {law.exponent:.2f}" + (f", {name}" if name else "")
            axes.plot(grid, mean, color=colour, label=text, zorder=2)
            if np.isfinite(low).all():
                axes.fill_between(grid, low, high, color=colour, alpha=0.14, lw=0)
            data += [
                {"what": f"law {name or ''}".strip(), "size": s, "rate": m, "low": a, "high": b}
                for s, m, a, b in zip(grid, mean, low, high, strict=True)
            ]
        looked = looks(finding.curves)
        for curve, best, size, look in zip(
            finding.curves, finding.optima, finding.sizes, looked, strict=True
        ):
            if best.refused:
                axes.plot(size, best.rate, "x", color=RED, ms=8, mew=2, zorder=5)
            else:
                if math.isfinite(best.low):
                    axes.plot([size] * 2, [best.low, best.high], color=INK, lw=1.3, zorder=3)
                marker = look["marker"]
                axes.plot(size, best.rate, marker, color=look["colour"], ms=8, mec=INK, zorder=5)
            columns["size"].append(size)
            columns["rate"] += [v for v in (best.rate, best.low, best.high) if math.isfinite(v)]
            row = {"what": best.refused or curve.name or finding.extreme, "size": size}
            data.append(row | {"rate": best.rate, "low": best.low, "high": best.high})
        if any(best.refused for best in finding.optima):
            axes.plot(
                [],
                [],
                "x",
                color=RED,
                ms=8,
                mew=2,
                ls="",
                label=f"no {finding.extreme}: best tried",
            )
        style.count_axis(axes, columns["size"])
        axes.set_yscale("log")
        _rate_ticks(axes, min(columns["rate"]), max(columns["rate"]))
        axes.set_xlabel(words.label(finding.size))
        axes.set_ylabel(f"best {words.label(finding.x)}")
        style.legend_below(figure, axes)
        style.finish(figure)
    caption = (
        f"The {finding.extreme} of each curve with its {finding.optima[0].level:.0%} interval, and "
        f"the power law through the {finding.extremes} with the interval of its line. Crosses are "
        f"curves without a {finding.extreme} between the rates tried, which the law leaves out."
    )
    what = words.label(finding.size)
    return Drawn(
        "best-rate-law", f"Best {words.label(finding.x)} against {what}", caption, figure,
        pd.DataFrame(data),
    )  # fmt: skip


def _rate_ticks(axes: Any, low: float, high: float) -> None:
    room = max((high / low) ** 0.08, 1.05)
    low, high = low / room, high * room
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(style.FixedLocator(style.log_ticks(low, high)))
    axes.yaxis.set_minor_locator(style.NullLocator())
    axes.yaxis.set_major_formatter(style.FuncFormatter(lambda value, _: f"{value:.3g}"))
