"""Two runs, or a run and its replay, held against each other: what differs, and where it begins.

Takes run directories; gives the config fields, the environment, the first tensor (by the hashes of
`scaling/train/fingerprints.py`) and the first line of metrics that differ. Called by `launch.py
diff`, and by `scaling/debug/replay.py` for `launch.py verify`. No jax in this file.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scaling.config import to_dict, to_identity
from scaling.config.nested import flatten
from scaling.records import RunDirectory

# What an update reads comes before what it makes: the batch explains the parameters.
_ORDER = ("batch", "params", "optimizer", "ema")
MISSING = "(none)"  # of a field or a tensor that only the other run has


@dataclass(frozen=True)
class Change:
    """One field that differs."""

    name: str
    ours: Any
    theirs: Any

    def __str__(self) -> str:
        return f"{self.name}: {self.ours!r} | {self.theirs!r}"


@dataclass(frozen=True)
class TensorDifference:
    """The first step at which hashes differ, and whose."""

    step: int
    names: tuple[str, ...]  # tensors, those that come first in an update first
    compared: int  # tensors
    before: int | None  # the last step at which all were equal; None: there is none


@dataclass(frozen=True)
class LineDifference:
    """The first line of metrics that differs, and by how much."""

    step: int
    split: str
    name: str  # of the entry that differs most
    ours: float
    theirs: float
    relative: float  # |ours - theirs| / max(|ours|, |theirs|)
    largest: float  # of all lines and entries

    def __str__(self) -> str:
        where = f"{self.name} on {self.split} at step {self.step}"
        return (
            f"{where}: {self.ours!r} | {self.theirs!r} ({self.relative:.2g} relative; over all "
            f"lines at most {self.largest:.2g})"
        )


@dataclass(frozen=True)
class Difference:
    """All of it; `text` for a person."""

    identity: tuple[Change, ...]  # config fields that say what is computed
    execution: tuple[Change, ...]  # config fields that say how
    environment: tuple[Change, ...]  # versions, devices, commit
    tensors: TensorDifference | None
    hashes: int  # steps at which both took hashes
    line: LineDifference | None
    lines: int  # lines of metrics that both have
    missing: tuple[str, ...] = field(default=())  # what only one has, or neither
    notes: tuple[str, ...] = field(default=())

    @property
    def same_result(self) -> bool:
        """Whether both ask for the same and have computed the same, as far as it is recorded."""
        apart = self.tensors is not None or self.line is not None
        return not (apart or self.identity or self.missing)


def compare(ours: RunDirectory, theirs: RunDirectory) -> Difference:
    """What differs between two runs. Raises UserError for a directory that is no run's."""
    configs = [run.config() for run in (ours, theirs)]
    everything = changes(*(flatten(to_dict(config)) for config in configs))
    identity = {name for config in configs for name in flatten(to_identity(config))}
    made_by = [flatten(run.record()["provenance"]) for run in (ours, theirs)]
    hashes = ours.hashes(), theirs.hashes()
    lines = ours.metrics(), theirs.metrics()
    both = set(_by_place(lines[0])) & set(_by_place(lines[1]))
    notes = []
    if not (set(hashes[0]) & set(hashes[1])):
        notes.append(
            "no step has hashes of both: set train.fingerprint_every to see which tensor differs "
            "first"
        )
    missing = [] if both else ["no line of metrics is of both: nothing was compared"]
    ends = [_reached(run, each) for run, each in zip((ours, theirs), lines, strict=True)]
    if ends[0] != ends[1]:
        missing.append(f"they reach different steps: {ends[0]} | {ends[1]}")
    return Difference(
        identity=tuple(c for c in everything if c.name in identity),
        execution=tuple(c for c in everything if c.name not in identity),
        environment=tuple(changes(*made_by)),
        tensors=first_tensors(*hashes),
        hashes=len(set(hashes[0]) & set(hashes[1])),
        line=first_line(*lines),
        lines=len(both),
        missing=(*missing, *_one_sided(*lines)),
        notes=tuple(notes),
    )


Lines = Sequence[Mapping[str, Any]]


def _reached(run: RunDirectory, lines: Lines) -> int:
    """The last step that a run is known to have made."""
    return max([run.status().get("step", 0), *(line["step"] for line in lines)])


def _one_sided(ours: Lines, theirs: Lines) -> list[str]:
    """Sets, and entries of lines that both have, that only one has. A run that was watched
    (`train.watch_every`, an execution field) computes the same as one that was not.
    """
    splits = [{line["split"] for line in lines} - {"watch"} for lines in (ours, theirs)]
    found = [
        f"lines of {split} are in {'a' if split in splits[0] else 'b'} alone"
        for split in sorted(splits[0] ^ splits[1])
    ]
    left, right = _by_place(ours), _by_place(theirs)
    entries: dict[tuple[str, str], tuple[str, int]] = {}  # split, name -> where, first step
    for place in sorted(set(left) & set(right)):
        step, split = place
        for name in sorted(_entries(left[place]) ^ _entries(right[place])):
            where = "a" if name in left[place] else "b"
            entries.setdefault((split, name), (where, step))
    return found + [
        f"{name} on {split} is in {where} alone, from step {step} on"
        for (split, name), (where, step) in entries.items()
    ]


def _entries(line: Mapping[str, Any]) -> set[str]:
    """Names of what is compared: the clock is not, and hashes are by tensor."""
    return {name for name in line if not name.startswith(("time/", "hash/"))}


def changes(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Change]:
    """Entries that differ, by name."""
    return [
        Change(name, ours.get(name, MISSING), theirs.get(name, MISSING))
        for name in sorted({**ours, **theirs})
        if repr(ours.get(name, MISSING)) != repr(theirs.get(name, MISSING))
    ]


Hashes = Mapping[int, Mapping[str, int]]  # step -> tensor -> hash


def first_tensors(ours: Hashes, theirs: Hashes) -> TensorDifference | None:
    """The first step at which a hash differs; None where there is none, or no step of both."""
    before = None
    for step in sorted(set(ours) & set(theirs)):
        a, b = ours[step], theirs[step]
        if different := [name for name in {**a, **b} if a.get(name) != b.get(name)]:
            names = tuple(sorted(different, key=_rank))
            return TensorDifference(step, names, len({**a, **b}), before)
        before = step
    return None


def _rank(name: str) -> int:
    group = name.split("/")[0]
    return _ORDER.index(group) if group in _ORDER else len(_ORDER)


def _by_place(lines: Lines) -> dict[tuple[int, str], Mapping[str, Any]]:
    return {(line["step"], line["split"]): line for line in lines}


def first_line(ours: Lines, theirs: Lines, tolerance: float = 0.0) -> LineDifference | None:
    """The first line, of those that both have, with an entry that differs by more than `tolerance`
    (relative). Entries of the clock, and hashes, are left out.
    """
    left, right = _by_place(ours), _by_place(theirs)
    first, largest = None, 0.0
    for place in sorted(set(left) & set(right)):
        a, b = left[place], right[place]
        apart = {n: relative(a[n], b[n]) for n in sorted(_entries(a) & _entries(b))}
        worst = max(apart, key=lambda n: apart[n])
        largest = max(largest, apart[worst])
        if first is None and apart[worst] > tolerance:
            first = (*place, worst, a[worst], b[worst], apart[worst])
    return None if first is None else LineDifference(*first, largest)


def relative(a: Any, b: Any) -> float:
    """|a - b| / max(|a|, |b|); 0 for equal values, infinite for those that are not numbers."""
    if a == b or (isinstance(a, float) and isinstance(b, float) and a != a and b != b):
        return 0.0
    numbers = isinstance(a, int | float) and isinstance(b, int | float)
    if not numbers or not (math.isfinite(a) and math.isfinite(b)):
        return math.inf
    return abs(a - b) / max(abs(a), abs(b))


def text(found: Difference, ours: str, theirs: str) -> str:
    """For a person: what differs, with `ours | theirs`."""
    out = [f"a: {ours}", f"b: {theirs}", ""]
    groups: Sequence[tuple[str, Sequence[Change], str]] = (
        ("config, what is computed", found.identity, "equal"),
        ("config, how it is computed", found.execution, "equal"),
        ("environment", found.environment, "equal"),
    )
    for title, listed, otherwise in groups:
        out.append(f"{title}: {otherwise if not listed else ''}".rstrip())
        out += [f"  {change}" for change in listed]
    out.append(f"tensors: {tensors_text(found.tensors, found.hashes)}")
    if found.line is not None:
        out.append(f"metrics: first difference, {found.line}")
    elif found.lines:
        out.append(f"metrics: equal in all {found.lines} lines that both have")
    else:
        out.append("metrics: no lines to compare")
    out += [f"missing: {what}" for what in found.missing]
    return "\n".join([*out, *(f"note: {note}" for note in found.notes)])


def tensors_text(found: TensorDifference | None, steps: int) -> str:
    """One sentence."""
    if found is None:
        return (
            f"equal at all {steps} steps with hashes of both" if steps else "no hashes to compare"
        )
    more = f" and {len(found.names) - 1} of {found.compared - 1} others" if found.names[1:] else ""
    last = f"; all equal at step {found.before}" if found.before is not None else ""
    return f"first difference at step {found.step}: {found.names[0]}{more}{last}"
