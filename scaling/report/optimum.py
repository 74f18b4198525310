"""What a study over the learning rate comes to: the best rate of each curve, and its law over size.

Takes the table of runs; gives a `RateFinding`: sentences, rows, what is stored in `optimum.json`;
`rate_figures.py` draws it. Called by `build.py` where a study's x is a learning rate.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from scaling.laws.optimum import Optimum, RateLaw, optima, rate_law
from scaling.report.axes import Curve, curves_in, curves_of, groups_in
from scaling.report.words import Words, measured, words_of
from scaling.units import human


@dataclass(frozen=True)
class RateFinding:
    """The best rates of a study's curves."""

    x: str
    size: str | None  # column that the law runs over; None: the curves have no sizes
    curves: tuple[Curve, ...]
    optima: tuple[Optimum, ...]  # of each curve
    sizes: tuple[float, ...]  # likewise; NaN: none
    laws: tuple[tuple[str | None, RateLaw], ...]  # what else its curves share, and the law
    words: Words

    @property
    def columns(self) -> list[str]:
        """Of the table of `rows`."""
        cost = measured(replace(self.words.main, label="twice or half costs"))
        there = f"{self.words.main.label} there"
        return ["curve", "size", "best rate", "interval", there, cost, "rates tried", ""]

    @property
    def extreme(self) -> str:
        """What the best rate of a curve is."""
        return "maximum" if self.words.higher else "minimum"

    @property
    def extremes(self) -> str:
        """Several of them."""
        return "maxima" if self.words.higher else "minima"

    @property
    def sentences(self) -> list[str]:
        """The laws in words, or why there is none."""
        rate = self.words.label(self.x)
        if self.size is None:
            return []
        size = self.words.label(self.size)
        said = []
        for name, law in self.laws:
            ends = [law.at(np.array([s]))[0][0] for s in law.sizes]
            interval = f"{law.level:.0%} interval of the exponent {law.low:.3g} to {law.high:.3g}"
            known = interval if math.isfinite(law.low) else "two sizes: no interval"
            low, high = (f"{end:.3g} at {human(s)}" for end, s in zip(ends, law.sizes, strict=True))
            said.append(
                f"{f'At {name}, the' if name else 'The'} best {rate} is {law.scale:.3g} times "
                f"({size})^{law.exponent:.3g} ({known}; {law.points} {self.extremes}): {low}, "
                f"{high}."
            )
        if not said:
            found = sum(not o.refused for o in self.optima)
            said.append(
                f"No law of the best {rate} over {size}: it takes {self.extremes} at two sizes, "
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
            "better": self.words.main.better,
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
    words = words_of(frame)
    sign = -1 if words.higher else 1
    given = [(c.rows[x].to_numpy(), sign * c.rows["loss"].to_numpy()) for c in curves]
    found = [_turned(best) if words.higher else best for best in optima(given, level)]
    size, sizes = _sizes(curves, by)
    laws = []
    if size is not None:
        for name, places in _alike(curves, sizes, by, words):
            kept = np.array([sizes[i] for i in places]), [found[i] for i in places]
            law = rate_law(*kept, level)
            if law is not None:
                laws.append((name, law))
    return RateFinding(x, size, tuple(curves), tuple(found), tuple(sizes), tuple(laws), words)


def _turned(best: Optimum) -> Optimum:
    """The maximum of a curve, from the minimum of what is less where the curve is more."""
    why = best.refused.replace("minimum", "maximum").replace("bend up", "bend down")
    coefficients = tuple(-c for c in best.coefficients)
    return replace(best, loss=-best.loss, coefficients=coefficients, refused=why)


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
    curves: Sequence[Curve], sizes: Sequence[float], by: Sequence[str], words: Words
) -> list[tuple[str | None, list[int]]]:
    """Places of the curves that one law goes through: those of one size differ in what is named."""
    table = pd.DataFrame([dict(zip(c.by, c.values, strict=True)) for c in curves], dtype=object)
    apart = [
        c for c in by if groups_in(table[c], words.amounts).groupby(list(sizes)).nunique().max() > 1
    ]
    table = table.assign(place=range(len(curves)), unit=words.unit)
    return [(part.name, part.rows["place"].tolist()) for part in curves_in(table, apart)]
