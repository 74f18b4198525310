"""What a study over the learning rate comes to: the best rate of each curve, and its law over size.

Takes the table of runs; gives a `RateFinding`: sentences, rows, what is stored in `optimum.json`,
and two figures. Called by `build.py` where a study's x is a learning rate.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from scaling.laws.optimum import Optimum, RateLaw, optima, rate_law
from scaling.report import style
from scaling.report.axes import Curve, curves_in, curves_of, groups_in, label, means
from scaling.report.figures import Drawn, file_of, list_looks, looks
from scaling.report.style import INK, PAPER, RED
from scaling.units import human

HEADS = (
    *("curve", "size", "best rate", "interval", "loss there", "twice or half costs (nats)"),
    *("rates tried", ""),
)


@dataclass(frozen=True)
class RateFinding:
    """The best rates of a study's curves."""

    x: str
    size: str | None  # column that the law runs over; None: the curves have no sizes
    curves: tuple[Curve, ...]
    optima: tuple[Optimum, ...]  # of each curve
    sizes: tuple[float, ...]  # likewise; NaN: none
    laws: tuple[tuple[str | None, RateLaw], ...]  # what else its curves share, and the law

    @property
    def sentences(self) -> list[str]:
        """The laws in words, or why there is none."""
        rate = label(self.x)
        if self.size is None:
            return []
        said = []
        for name, law in self.laws:
            ends = [law.at(np.array([s]))[0][0] for s in law.sizes]
            interval = f"{law.level:.0%} interval of the exponent {law.low:.3g} to {law.high:.3g}"
            known = interval if math.isfinite(law.low) else "two sizes: no interval"
            low, high = (f"{end:.3g} at {human(s)}" for end, s in zip(ends, law.sizes, strict=True))
            said.append(
                f"{f'At {name}, the' if name else 'The'} best {rate} is {law.scale:.3g} times "
                f"({label(self.size)})^{law.exponent:.3g} ({known}; {law.points} minima): {low}, "
                f"{high}."
            )
        if not said:
            found = sum(not o.refused for o in self.optima)
            said.append(
                f"No law of the best {rate} over {label(self.size)}: it takes minima at two sizes, "
                f"and {found} of {len(self.optima)} curves {'has' if found == 1 else 'have'} one."
            )
        return said

    @property
    def rows(self) -> list[dict[str, str]]:
        """A row a curve: its name, size, best rate, interval, loss there, and the rates tried."""
        out = []
        for curve, best, size in zip(self.curves, self.optima, self.sizes, strict=True):
            known = math.isfinite(best.low)
            out.append(
                {
                    "curve": curve.name or "all runs",
                    "size": human(size),
                    "rate": f"{best.rate:.3g}",
                    "interval": f"{best.low:.3g} to {best.high:.3g}" if known else "none",
                    "loss": f"{best.loss:.4f}",
                    "doubling": "-" if best.refused else f"{best.doubling:.3g}",
                    "swept": f"{best.rates[0]:.3g} to {best.rates[1]:.3g}",
                    "note": best.refused or best.wide,
                }
            )
        return out

    def as_json(self) -> dict[str, Any]:
        """What `optimum.json` holds."""
        return {
            "x": self.x,
            "size": self.size,
            "optima": [
                {"curve": curve.name, "size": size} | asdict(best)
                for curve, best, size in zip(self.curves, self.optima, self.sizes, strict=True)
            ],
            "laws": [
                {"of": name, "formula": "rate = scale * size^exponent"}
                | {k: v for k, v in asdict(law).items() if k not in ("covariance", "middle")}
                for name, law in self.laws
            ],
        }


def find_rates(
    frame: pd.DataFrame, x: str, by: Sequence[str], level: float = 0.9
) -> RateFinding | None:
    """The best learning rate of every curve of the runs that are done; None where none is."""
    curves = curves_of(frame, x, by)
    if all(curve.rows.empty for curve in curves):
        return None
    found = optima([(c.rows[x].to_numpy(), c.rows["loss"].to_numpy()) for c in curves], level)
    size, sizes = _sizes(curves, by)
    laws = []
    if size is not None:
        for name, places in _alike(curves, sizes, by):
            kept = np.array([sizes[i] for i in places]), [found[i] for i in places]
            law = rate_law(*kept, level)
            if law is not None:
                laws.append((name, law))
    return RateFinding(x, size, tuple(curves), tuple(found), tuple(sizes), tuple(laws))


def _sizes(curves: Sequence[Curve], by: Sequence[str]) -> tuple[str | None, list[float]]:
    """The column that orders the curves by size: params, or else one of theirs that is a number."""
    for column in ("params", *by):
        values = [curve.rows[column].unique() for curve in curves]
        one = [v[0] for v in values if len(v) == 1]
        numbers = [float(v) for v in one if isinstance(v, int | float | np.number) and v > 0]
        if len(numbers) == len(curves) and len(set(numbers)) > 1:
            return column, numbers
    return None, [math.nan] * len(curves)


def _alike(
    curves: Sequence[Curve], sizes: Sequence[float], by: Sequence[str]
) -> list[tuple[str | None, list[int]]]:
    """Places of the curves that one law goes through: those of one size differ in what is named."""
    table = pd.DataFrame([dict(zip(c.by, c.values, strict=True)) for c in curves], dtype=object)
    apart = [
        c for c in by if groups_in(table[c]).groupby(list(sizes)).nunique().max() > 1
    ]  # fmt: skip
    table["place"] = range(len(curves))
    return [(part.name, part.rows["place"].tolist()) for part in curves_in(table, apart)]


# ---- figures


def valleys_figure(finding: RateFinding, log_x: bool = True) -> Drawn:
    """How far each run is above the minimum of its curve, with the fitted curves and intervals."""
    curves, rate, data = finding.curves, label(finding.x), []
    tops = [1.0]
    with style.styled():
        figure, (axes, *_) = style.new_figure()
        for curve, best, look in zip(curves, finding.optima, looks(curves), strict=True):
            colour, x = look["colour"], curve.rows[finding.x].to_numpy(float)
            above = 100 * (curve.rows["loss"].to_numpy(float) / best.loss - 1)
            axes.plot(x, above, look["marker"], color=colour, ms=5, mec=PAPER, mew=0.5)
            part = pd.DataFrame({"curve": curve.name, finding.x: x, "above_percent": above})
            data.append(part.assign(what="run"))
            if best.refused:
                tops.append(float(np.median(above)))
                mean = means(curve.rows, finding.x)
                off = 100 * (mean["mean"] / best.loss - 1)
                axes.plot(mean[finding.x], off, color=colour, lw=1.2, ls=(0, (1, 1.5)))
                axes.plot(best.rate, 0.0, "x", color=RED, ms=8, mew=2, zorder=6)
            else:
                grid = np.geomspace(*best.fitted, 60)
                line = 100 * (best.at(grid) / best.loss - 1)
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
            row = {"curve": curve.name, finding.x: best.rate, "above_percent": 0.0}
            row |= {"low": best.low, "high": best.high}
            data.append(pd.DataFrame([row | {"what": best.refused or best.wide or "minimum"}]))
        title = list_looks(axes, curves) if curves[0].by else None
        axes.plot([], [], "*", color=PAPER, ms=12, mec=INK, ls="", label="minimum")
        if any(best.refused for best in finding.optima):
            axes.plot([], [], "x", color=RED, ms=8, mew=2, ls="", label="none: best tried")
        _intervals(axes, finding, max(tops))
        style.count_axis(axes, pd.concat(data)[finding.x].tolist(), log=log_x)
        axes.set_ylim(-0.24 * max(tops), 1.15 * max(tops))
        axes.axhline(0, color=INK, lw=0.8)
        axes.set_xlabel(rate)
        axes.set_ylabel("loss above the curve's minimum (%)")
        style.legend_below(figure, axes, title=title)
        style.finish(figure)
    level = finding.optima[0].level
    caption = (
        f"Each run's final loss above the minimum of its curve; stars are the minima of the fitted "
        f"curves, the bars below their {level:.0%} intervals. Runs far above are cut off."
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
    data: list[Mapping[str, Any]] = []
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
            row = {"what": best.refused or curve.name or "minimum", "size": size}
            data.append(row | {"rate": best.rate, "low": best.low, "high": best.high})
        if any(best.refused for best in finding.optima):
            axes.plot([], [], "x", color=RED, ms=8, mew=2, ls="", label="no minimum: best tried")
        style.count_axis(axes, columns["size"])
        axes.set_yscale("log")
        _rate_ticks(axes, min(columns["rate"]), max(columns["rate"]))
        axes.set_xlabel(label(finding.size))
        axes.set_ylabel(f"best {label(finding.x)}")
        style.legend_below(figure, axes)
        style.finish(figure)
    caption = (
        f"The minimum of each curve with its {finding.optima[0].level:.0%} interval, and the power "
        "law through the minima with the interval of its line. Crosses are curves without a "
        "minimum between the rates tried, which the law leaves out."
    )
    what = label(finding.size)
    return Drawn(
        "best-rate-law", f"Best {label(finding.x)} against {what}", caption, figure,
        pd.DataFrame(data),
    )  # fmt: skip


def _rate_ticks(axes: Any, low: float, high: float) -> None:
    room = max((high / low) ** 0.08, 1.05)
    low, high = low / room, high * room
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(style.FixedLocator(style.log_ticks(low, high)))
    axes.yaxis.set_minor_locator(style.NullLocator())
    axes.yaxis.set_major_formatter(style.FuncFormatter(lambda value, _: f"{value:.3g}"))
