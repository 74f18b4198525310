"""What was measured of one parametrization along one axis, and what it comes to: a page.

Takes slopes and optima; gives Markdown and JSON. Called by `scaling/commands/certifying.py`.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scaling.certify.slopes import JUDGED, Slope, off
from scaling.optim import Parametrization
from scaling.studies.transfer import Axis


@dataclass(frozen=True)
class Forgotten:
    """A multiplier that was left out on purpose, and what the check says then."""

    path: str
    field: str  # of `optim.Multipliers`
    off: tuple[str, ...]  # names of slopes that are off with it and not without, clearest first

    @property
    def named(self) -> bool:
        """Whether the check names the parameter."""
        return any(name.partition("/")[2] == self.path for name in self.off)


@dataclass(frozen=True)
class Best:
    """The best learning rate of one size."""

    size: int
    rate: float
    low: float  # interval; NaN: none
    high: float
    loss: float  # at the rate
    note: str  # why there is no minimum or no interval


@dataclass(frozen=True)
class Drift:
    """How the best learning rate moves from the least to the largest size."""

    bests: tuple[Best, ...]
    octaves: float  # NaN: fewer than two minima
    low: float  # interval; NaN: none
    high: float


@dataclass(frozen=True)
class Part:
    """One parametrization."""

    name: str
    slopes: tuple[Slope, ...]  # at the last step
    forgotten: Forgotten | None
    drift: Drift | None
    stress: tuple[tuple[str, Drift], ...] = ()  # what was changed, and the drift then


@dataclass(frozen=True)
class Certificate:
    """Of one optimizer and axis."""

    run: str  # of the base
    optimizer: str
    axis: Axis
    sizes: tuple[int, ...]
    steps: int
    seeds: int
    ends: str  # how `coordinates.ends` begin: "zero" or "drawn"
    tolerance: float
    parts: tuple[Part, ...]

    def verdict(self, part: Part) -> str:
        """In a line."""
        wrong = off(part.slopes)
        if not part.slopes:
            return "not measured"
        if wrong:
            more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            return f"FAILS: {wrong[0].name} follows the {self.axis}{more}"
        if part.forgotten is not None and not part.forgotten.named:
            return (
                f"BLIND: without the {part.forgotten.field} of {part.forgotten.path} it holds too"
            )
        return "HOLDS"

    def holds(self, name: str) -> bool:
        """Whether the parametrization of this name does."""
        return all(self.verdict(part) == "HOLDS" for part in self.parts if part.name == name)


def forgettable(scale: Parametrization) -> tuple[str, str] | None:
    """(path, field) of a multiplier that is not 1, of a matrix within the model if there is one:
    what a check must miss when it is left out. None: all are 1.
    """
    for field, roles in (("rate", ("hidden",)), ("init", ("hidden",)), ("init", ("input",))):
        values = scale.values(field)
        found = [x.path for x in scale.leaves if x.role in roles and values[x.path] != 1.0]
        if found:
            return found[-1], field
    return None


# ---- the page

_ENDS = {"width": "outputs", "depth": "the branches' last matrices"}


def markdown(found: Certificate) -> str:
    """The whole page."""
    sizes = ", ".join(map(str, found.sizes))
    lines = [
        f"# {found.optimizer} along the {found.axis}: {sizes}",
        "",
        f"Base: {found.run}. Steps: {found.steps}, seeds: {found.seeds}; {_ENDS[found.axis]} begin "
        f"{'at zero' if found.ends == 'zero' else 'as drawn'}. An exponent within "
        f"{found.tolerance:g} of zero is flat, one whose 90% interval lies outside is off.",
        "",
        "| parametrization | coordinates | flat | unclear | off | largest | drift of best rate |",
        "|---|---|---|---|---|---|---|",
    ]
    for part in found.parts:
        judged = [one for one in part.slopes if one.kind in JUDGED]
        counts = [sum(x.verdict == v for x in judged) for v in ("flat", "unclear", "off")]
        largest = max((abs(x.exponent) for x in judged), default=math.nan)
        cells = [part.name, found.verdict(part), *map(str, counts), f"{largest:.2f}"]
        lines.append(f"| {' | '.join([*cells, _drift(part.drift)])} |")
    for part in found.parts:
        lines += ["", f"## {part.name}", "", *_forgotten(part), *_bests(part), *_stress(part)]
        lines += _slopes(part)
    return "\n".join(lines) + "\n"


def _drift(drift: Drift | None) -> str:
    if drift is None:
        return "not measured"
    if math.isnan(drift.octaves):
        return "fewer than two minima"
    interval = "no interval" if math.isnan(drift.low) else f"{drift.low:+.2f} to {drift.high:+.2f}"
    return f"{drift.octaves:+.2f} octaves ({interval})"


def _forgotten(part: Part) -> list[str]:
    one = part.forgotten
    if one is None:
        return []
    names = ", ".join(f"`{name}`" for name in one.off[:5]) or "nothing"
    more = f" and {len(one.off) - 5} more" if len(one.off) > 5 else ""
    said = "named" if one.named else "NOT named"
    return [
        f"Without the {one.field} multiplier of `{one.path}`, left out on purpose, what is off is "
        f"{names}{more}: the parameter is {said}.",
        "",
    ]


def _bests(part: Part) -> list[str]:
    if part.drift is None:
        return []
    lines = ["| size | best rate, log2 | interval | loss there | |", "|---|---|---|---|---|"]
    for best in part.drift.bests:
        ends = [math.log2(x) if x > 0 else math.nan for x in (best.rate, best.low, best.high)]
        interval = "none" if math.isnan(ends[1]) else f"{ends[1]:.2f} to {ends[2]:.2f}"
        lines.append(
            f"| {best.size} | {ends[0]:.2f} | {interval} | {best.loss:.4f} | {best.note} |"
        )
    return [*lines, ""]


def _stress(part: Part) -> list[str]:
    if not part.stress:
        return []
    lines = ["| the same with | drift of best rate | loss of the largest |", "|---|---|---|"]
    lines += [f"| {name} | {_drift(d)} | {d.bests[-1].loss:.4f} |" for name, d in part.stress]
    return [*lines, ""]


def _slopes(part: Part) -> list[str]:
    head = [
        "| size of | exponent | interval | | at the sizes | exponent at steps 1, 2, ... |",
        "|---|---|---|---|---|---|",
    ]
    lines = [
        f"| {one.name} | {one.exponent:+.3f} | {one.low:+.2f} to {one.high:+.2f} | "
        f"{one.verdict if one.kind in JUDGED else ''} | "
        f"{' '.join(f'{x:.3g}' for x in one.sizes)} | "
        f"{' '.join('-' if math.isnan(x) else f'{x:+.2f}' for x, *_ in one.course)} |"
        for one in part.slopes
    ]
    return [*head, *lines] if lines else []


def as_dict(found: Certificate) -> dict[str, Any]:
    """The same as JSON values; numbers that there are not are None."""
    values: dict[str, Any] = _plain(dataclasses.asdict(found))
    for part, of in zip(found.parts, values["parts"], strict=True):
        of["verdict"] = found.verdict(part)
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def drift_of(bests: Sequence[Best], exponent: float, low: float, high: float) -> Drift:
    """Octaves between the least and the largest size of a law rate ~ size^exponent through the
    bests; NaN: there is none.
    """
    sizes = [best.size for best in bests]
    doublings = math.log2(max(sizes) / min(sizes))
    return Drift(tuple(bests), *(doublings * x for x in (exponent, low, high)))
