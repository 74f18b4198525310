"""How the sizes of a coordinate check grow along an axis, and what that says of a parametrization.

Takes `coordinates.Sizes` of several models; gives a `Slope` for each name: the exponent of its size
in the width or depth, with an interval, and a verdict. Pure numpy. Called by
`scaling/commands/certifying.py`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.special

from scaling.certify.coordinates import Sizes
from scaling.studies.transfer import Axis

# flat: the exponent is within the tolerance of 0. off: its interval lies outside of it. unclear:
# neither, more sizes or seeds would tell.
Verdict = Literal["flat", "off", "unclear"]
JUDGED = ("change", "initial", "update")  # kinds; the others are shown
QUARTERS = (0.25, 0.5, 0.75, 1.0)  # of the stack, where models of other depths are compared


@dataclass(frozen=True)
class Slope:
    """size ~ axis^exponent of one name at one step."""

    name: str  # "<kind>/<name>"
    exponent: float
    low: float  # interval; NaN: fewer than three sizes
    high: float
    sizes: tuple[float, ...]  # geometric means over seeds, in the order of the axis
    verdict: Verdict
    # (exponent, low, high) at steps 1, 2, ...; NaN where there is none. Of "initial" nothing.
    course: tuple[tuple[float, float, float], ...] = ()

    @property
    def kind(self) -> str:
        """As in `coordinates.KINDS`."""
        return self.name.partition("/")[0]


def fit(
    measured: Sequence[Sizes],
    axis: Axis,
    step: int = -1,
    tolerance: float = 0.05,
    level: float = 0.9,
) -> list[Slope]:
    """The slope of everything that all models have, at one step; "initial" at step 0.

    Least squares of log size over log axis, through the means of each size over seeds; the interval
    is Student's, from how far these lie off the line, be it by noise or by a bend. What is zero
    somewhere has no slope.

    Args:
      measured: one a model and seed, of three values of the axis at least.
      axis: what they differ in.
      step: index of the step.
      tolerance: of an exponent that counts as zero.
      level: of the interval.
    """
    at = sorted({getattr(one, axis) for one in measured})
    values = [(getattr(one, axis), _named(one, axis)) for one in measured]
    shared = set.intersection(*(set(found) for _, found in values))
    slopes = []
    for name in sorted(shared):
        rows = [[found[name] for x, found in values if x == a] for a in at]
        initial = name.startswith("initial/")
        one = _at(at, rows, 0 if initial else step, level)
        if one is None:
            continue
        exponent, low, high, means = one
        later = range(0 if initial else len(rows[0][0]) - 1)
        course = [(_at(at, rows, i + 1, level) or (math.nan,) * 3)[:3] for i in later]
        verdict = _verdict(exponent, low, high, tolerance)
        slopes.append(Slope(name, exponent, low, high, means, verdict, tuple(course)))
    return slopes


def _at(
    at: Sequence[int], rows: Sequence[Sequence[np.ndarray]], step: int, level: float
) -> tuple[float, float, float, tuple[float, ...]] | None:
    """Exponent, the ends of its interval and geometric means at one step; None: no slope."""
    here = [[float(y[step]) for y in row] for row in rows]
    if not all(y > 0 and math.isfinite(y) for row in here for y in row):
        return None
    means = [float(np.mean(np.log(row))) for row in here]
    exponent, reach = _line(np.log(at), np.array(means), level)
    return exponent, exponent - reach, exponent + reach, tuple(map(math.exp, means))


def off(slopes: Iterable[Slope]) -> list[Slope]:
    """Those of the judged kinds whose size follows the axis, the clearest first."""
    found = [one for one in slopes if one.kind in JUDGED and one.verdict == "off"]
    return sorted(found, key=lambda one: -min(abs(one.low), abs(one.high)))


def holds(slopes: Sequence[Slope]) -> bool:
    """Whether nothing of the judged kinds is off."""
    return not off(slopes)


def _line(x: np.ndarray, y: np.ndarray, level: float) -> tuple[float, float]:
    """Slope, and half of its interval; NaN of two points."""
    centred = x - x.mean()
    spread = float(centred @ centred)
    slope = float(centred @ y) / spread
    dof = len(x) - 2
    if dof < 1:
        return slope, math.nan
    residual = y - y.mean() - slope * centred
    deviation = math.sqrt(float(residual @ residual) / dof / spread)
    return slope, float(scipy.special.stdtrit(dof, (1 + level) / 2)) * deviation


def _verdict(exponent: float, low: float, high: float, tolerance: float) -> Verdict:
    if abs(exponent) <= tolerance:
        return "flat"
    outside = low > tolerance or high < -tolerance
    return "off" if outside or math.isnan(low) else "unclear"


def _named(one: Sizes, axis: Axis) -> Mapping[str, np.ndarray]:
    """Its values; along the depth, those of a stack of blocks by the share of it that lies before.

    What block i of L leaves is behind (i + 1) / L of the stack. A branch within it sees what lies
    before: the first i / L, the second of two half a block more. Quarters are found between two
    blocks, where they are not at one, and never beyond the first and last. Compared by their ends,
    the first of two blocks, with nothing before it, would stand beside the sixteenth of thirty-two,
    with half of the stack before it.
    """
    if axis == "width":
        return one.values
    found = dict[str, np.ndarray]()
    blocks = dict[tuple[str, str], dict[int, np.ndarray]]()
    for name, values in one.values.items():
        number = _block(name)
        if number is None:
            found[name] = values
        else:
            stack, _, rest = name.partition(".")
            _, dot, part = rest.partition(".")
            blocks.setdefault((stack, dot + part), {})[number] = values
    count = 1 + max((number for of in blocks.values() for number in of), default=0)
    for (stack, part), of in blocks.items():
        places = (np.array(sorted(of)) + _within(part, one.branches)) / count
        rows = np.array([of[number] for number in sorted(of)])
        for share in QUARTERS:
            if places[0] <= share <= places[-1]:
                at = [np.interp(share, places, column) for column in rows.T]
                found[f"{stack} at {share:.0%}{part}"] = np.array(at)
    return found


def _within(part: str, branches: Sequence[str]) -> float:
    """The share of a block that lies before ".attention_norm" or alike; before "", its end, all.

    A branch's norm has its name, with "_norm" behind it; what is of no branch is at the beginning.
    """
    if not part:
        return 1.0
    first = part.split(".")[1]
    order = [i for i, name in enumerate(branches) if first == name or first.startswith(f"{name}_")]
    return order[0] / len(branches) if order else 0.0


def _block(name: str) -> int | None:
    """The number of the block that "change/blocks.3.norm" or alike is in."""
    parts = name.split(".")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None
