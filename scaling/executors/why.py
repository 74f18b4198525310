"""`sweep --why`: for each run of a study, whether it will be trained, and why or why not.

Takes resolved runs and a workdir; reads the run directories. A run that was never started is held
against the runs of the workdir that the study no longer has: a config that was changed since shows
itself by the fields that differ.
"""

import collections
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from etils import epath

from scaling import files
from scaling.config import RunConfig, to_dict, to_identity
from scaling.config.nested import flatten
from scaling.errors import UserError
from scaling.records import RunDirectory, find_runs
from scaling.records.comparison import MISSING

_NEAR = 8  # fields that may differ between a run and its older self


@dataclass(frozen=True)
class Reason:
    """Of one run."""

    name: str
    state: str  # done, running, stopped, failed, diverged, damaged, or new
    runs: bool  # whether the sweep would train it
    text: str


def reasons(configs: Sequence[RunConfig], workdir: epath.PathLike) -> list[Reason]:
    """In the order of `configs`, which are resolved."""
    found = [_begun(RunDirectory.open(config, workdir)) for config in configs]
    new = [i for i, reason in enumerate(found) if reason is None]
    ours = {RunDirectory.open(config, workdir).path.name for config in configs}
    older = [run for run in find_runs(workdir) if run.path.name not in ours] if new else []
    nearest = _nearest([configs[i] for i in new], older)
    for i, near in zip(new, nearest, strict=True):
        name = RunDirectory.open(configs[i], workdir).path.name
        text = "never started"
        if near is not None:
            run, fields = near
            changed = "; ".join(f"{n} was {there!r}, is {here!r}" for n, there, here in fields)
            text = f"never started with this config; nearest is {run}: {changed}"
        found[i] = Reason(name, "new", True, text)
    return [reason for reason in found if reason is not None]


def _begun(run: RunDirectory) -> Reason | None:
    """Of a run that has a directory; None for one that has not."""
    status = run.status()
    if not status:
        return None
    name, state, because = run.path.name, status["state"], status.get("reason") or ""
    at = f"step {status.get('step', 0)}" + (f" of {status['steps']}" if "steps" in status else "")
    if state == "done":
        return Reason(name, state, False, "done: skipped")
    if state == "diverged":
        return Reason(name, state, False, f"diverged at {at}, kept as a result: {because}")
    if state == "running" and files.is_held(run.path / "lock") is None:
        text = (
            f"running or killed, at {at}; without locks nobody can know, and it goes on from its "
            "newest checkpoint: end a process that still trains it first"
        )
        return Reason(name, state, True, text)
    if state == "running":
        with contextlib.suppress(OSError):
            pid = (run.path / "lock").read_text().strip()
            at += f", by process {pid}" if pid else ""
        return Reason(name, state, False, f"running, {at}: left to it")
    if state == "damaged":
        return Reason(name, state, True, because)
    if state == "failed":
        return Reason(name, state, True, f"failed at {at}: {because}; {_again(run)}")
    text = f"stopped at {at}: goes on from its newest checkpoint"
    return Reason(name, "stopped", True, text)


def _again(run: RunDirectory) -> str:
    """What another attempt at a failed run will be like."""
    attempts, changed = run.attempts(), run.changed()
    text = "tried again"
    if changed:
        text += " with " + ", ".join(f"{name}={value}" for name, value in changed.items())
    if attempts:
        text += f" ({len(attempts)} attempts so far)"
        if attempts[-1].get("failure") == "config":
            text += ", and ends the same way unless what it names is mended"
    return text


Fields = list[tuple[str, Any, Any]]  # name, there, here


def _nearest(
    configs: Sequence[RunConfig], older: Sequence[RunDirectory]
) -> list[tuple[str, Fields] | None]:
    """For each run, the older one with the fewest other identity fields, and those; None where
    none is near.
    """
    theirs: list[tuple[str, Mapping[str, Any]]] = []
    for run in older:
        with contextlib.suppress(UserError):
            theirs.append((run.path.name, flatten(run.record()["config"])))
    if not theirs or not configs:
        return [None] * len(configs)
    ours = [flatten(to_identity(config)) for config in configs]
    execution = flatten(to_dict(configs[0])).keys() - ours[0].keys()
    names = sorted({n for values in ours for n in values} - execution)
    # Values as numbers: a comparison with every older run is then one operation on an array.
    numbers: dict[str, int] = {}

    def row(values: Mapping[str, Any]) -> list[int]:
        texts = (repr(values.get(name, MISSING)) for name in names)
        return [numbers.setdefault(text, len(numbers)) for text in texts]

    table = np.array([row(values) for _, values in theirs], np.int32)
    out: list[tuple[str, Fields] | None] = []
    for values in ours:
        apart = table != np.array(row(values), np.int32)
        at = int(apart.sum(axis=1).argmin())
        name, there = theirs[at]
        different = [names[j] for j in np.flatnonzero(apart[at])]
        fields = [(n, there.get(n, MISSING), values.get(n, MISSING)) for n in different]
        out.append((name, fields) if 0 < len(fields) <= _NEAR else None)
    return out


def text(found: Sequence[Reason]) -> str:
    """One line a run, and how many are trained and not, by state."""
    lines = [f"{'runs' if r.runs else 'no  '}  {r.name}  {r.text}" for r in found]
    for word, runs in (("trained", True), ("not trained", False)):
        counts = collections.Counter(r.state for r in found if r.runs == runs)
        listed = ", ".join(f"{n} {state}" for state, n in counts.items())
        lines.append(f"{word}: {sum(counts.values())}" + (f" ({listed})" if listed else ""))
    return "\n".join(lines)
