"""How long a sweep will take, from what its programs took before; and how long it took.

Takes resolved runs, a workdir and a device; gives seconds for each run that is still to do, from
the records of `scaling/records/timing.py`, or from FLOPs and a utilization where there is none, and
says which. Called by `sweep`, before the runs and after them.
"""

import collections
import datetime
import heapq
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import pandas as pd
from etils import epath

from scaling import files
from scaling.config import RunConfig, amounts, run_name
from scaling.costs import sizes
from scaling.devices import peaks
from scaling.records import RunDirectory, timing
from scaling.records.status import ENDED
from scaling.records.timing import Cost
from scaling.units import duration

MFU = 0.3  # model FLOPs utilization that is taken where nothing was measured
# Seconds from the start of a job to its first step where nothing was measured: data, compilation,
# initialisation. Of the first job of a program, and of those that find it compiled.
START, START_AGAIN = 10.0, 3.0
_DATED = 365 * 86400.0  # seconds to the end up to which it gives the date
_RATIO_FROM = 5.0  # seconds predicted from which on it says something how far off they were


@dataclass(frozen=True)
class Estimate:
    """Of one run."""

    config: RunConfig
    seconds: float | None  # still to come; None: the device's peak is not known
    source: str  # "record", "MFU 30%", or "ended"
    spent: float  # seconds that its status says it has taken so far
    job: int  # which of the sweep's; the members of a packed group have the same


@dataclass(frozen=True)
class Forecast:
    """Of a sweep."""

    estimates: tuple[Estimate, ...]
    devices: int  # of a run
    slots: int  # jobs at a time
    start: float  # seconds that were taken for the start of a program without a record
    known: Mapping[str, Sequence[Cost]] = field(default_factory=dict)  # records, by program

    @property
    def seconds(self) -> float:
        """Of all runs, one after another."""
        return sum(e.seconds or 0.0 for e in self.estimates)

    @property
    def chip_hours(self) -> float:
        """Hours times devices; a worker of one core counts as a device."""
        return self.seconds * self.devices / 3600

    @property
    def wall_seconds(self) -> float:
        """Until the last job ends, each slot taking the longest that is left."""
        slots, jobs = [0.0] * max(1, self.slots), dict[int, float]()
        for e in self.estimates:
            jobs[e.job] = jobs.get(e.job, 0.0) + (e.seconds or 0.0)
        for seconds in sorted(jobs.values(), reverse=True):
            heapq.heapreplace(slots, slots[0] + seconds)
        return max(slots)

    def text(self) -> str:
        """A few lines for the dry run."""
        todo = [e for e in self.estimates if e.source != "ended"]
        if not todo:
            return "predicted: nothing is left to train"
        sources = {e.source: sum(o.source == e.source for o in todo) for e in todo}
        listed = ", ".join(f"{n} from {self._source(name)}" for name, n in sources.items())
        unknown = sum(e.seconds is None for e in todo)
        wall, at = self.wall_seconds, ""
        if wall < _DATED:
            at = f", at {datetime.datetime.now() + datetime.timedelta(seconds=wall):%Y-%m-%d %H:%M}"
        lines = [
            f"predicted: {len(todo)} runs, {duration(self.seconds)} of training ({listed}), "
            f"{self.chip_hours:.3g} chip-hours; {self.slots} at a time they end in "
            f"{duration(wall)}{at}"
        ]
        if unknown:
            lines.append(f"not counted: {unknown} runs; the peak of this device is not known")
        return "\n".join(lines)

    def _source(self, name: str) -> str:
        if name == "record":
            return "records of their programs"
        return f"FLOPs at an {name} and {duration(self.start)} to start each new program"


def forecast(
    configs: Sequence[RunConfig],
    workdir: epath.PathLike,
    device: jax.Device,
    devices: int = 1,
    slots: int = 1,
    mfu: float | None = None,
    shared: Mapping[str, int] | None = None,
    groups: Iterable[Sequence[RunConfig]] = (),
) -> Forecast:
    """Seconds of every run that has not ended.

    Args:
      configs: resolved.
      workdir: where the run directories are.
      device: one of those that will train.
      devices: of a run.
      slots: jobs at a time; on a CPU they share the cores.
      mfu: where there is no record; None: that of records of other programs, else `MFU`.
      shared: updates that a run, by its name, is given by a trunk.
      groups: runs that one job trains as one program; it starts and compiles once, and its members
        have equal shares of that. A run that is in none is a job of its own.
    """
    runs = [RunDirectory.open(config, workdir) for config in configs]
    programs = [timing.program(config) for config in configs]
    cores = timing.cores_here(device.platform)
    share = None if cores is None else max(1, cores // slots)
    here, found_of = (device.device_kind, devices, share), timing.known(programs, runs).items()
    known = {name: alike for name, took in found_of if (alike := _of_place(took, here))}
    measured = [c.mfu for found in known.values() for c in found if c.mfu]
    rate = mfu or (statistics.median(measured) if measured else MFU)
    label = f"MFU of {rate:.2g}" + ("" if mfu or not measured else " (of other programs here)")
    start = _start(known.values())
    group_of = {run_name(c): number for number, group in enumerate(groups) for c in group}
    jobs = [group_of.get(run_name(c), -1 - number) for number, c in enumerate(configs)]
    statuses = [run.status() for run in runs]
    todo = [s.get("state") not in ENDED or s.get("state") == "failed" for s in statuses]
    members_of = collections.Counter(job for job, left in zip(jobs, todo, strict=True) if left)
    estimates, first_job = [], dict[str, int]()
    for config, name, job, status, still in zip(
        configs, programs, jobs, statuses, todo, strict=True
    ):
        spent, members = status.get("seconds", 0.0), members_of[job]
        if not still:
            estimates.append(Estimate(config, 0.0, "ended", spent, job))
            continue
        first = first_job.setdefault(name, job) == job
        given = max(status.get("step", 0), (shared or {}).get(run_name(config), 0))
        left = amounts.resolved(config.train.steps) - given
        if found := known.get(name):
            alike = [c for c in found if c.members == members] or found
            seconds: float | None = _from_record(config, alike, left, members, first)
            estimates.append(Estimate(config, seconds, "record", spent, job))
            continue
        peak = peaks.peak_flops(device, config.model.dtype)
        if peak is not None and cores and share:
            peak *= share / cores
        cost = sizes.cost(config)
        flops = cost.flops * left / amounts.resolved(config.train.steps)
        begin = (start if first else min(start, START_AGAIN)) / members
        seconds = None if peak is None else begin + flops / (peak * devices * rate)
        estimates.append(Estimate(config, seconds, label, spent, job))
    return Forecast(tuple(estimates), devices, slots, start, known)


def _start(known: Iterable[Sequence[Cost]]) -> float:
    """Seconds to start and compile a program that is not on record, by those that are."""
    measured = [c.other_s + c.compile_s for found in known for c in found]
    return statistics.median(measured) if measured else START


def _of_place(found: Iterable[Cost], here: tuple[str, int, int | None]) -> list[Cost]:
    """Records of this kind and number of devices; of those, with as many cores if there are any."""
    alike = [c for c in found if c.place[:2] == here[:2]]
    return [c for c in alike if c.place == here] or alike


def _from_record(
    config: RunConfig, found: Sequence[Cost], left: int, members: int, first: bool
) -> float:
    """Seconds of the `left` steps of a run, by the medians of its program's records, with its share
    of what its job of so many members does once.

    What the first job of a program has compiled, the others find in jax's cache: the shortest
    compilation on record.
    """

    median = statistics.median
    every = config.evals.every
    evaluations = left // every if every else 1
    once = median(c.other_s for c in found)
    once += (median if first else min)(c.compile_s for c in found)
    return (
        once / members
        + left * median(c.step_s / c.members for c in found)
        + max(1, evaluations) * median((c.eval_s or 0.0) / c.members for c in found)
    )


def against(predicted: Forecast, workdir: epath.PathLike, wall: float) -> tuple[str, pd.DataFrame]:
    """After a sweep: a sentence, and a row a run that it trained to its end.

    Args:
      wall: seconds that the sweep took.
    """
    rows: list[dict[str, Any]] = []
    for e in predicted.estimates:
        run = RunDirectory.open(e.config, workdir)
        status, cost = run.status(), timing.of_run(run)
        if e.source == "ended" or status.get("state") != "done" or e.seconds is None:
            continue
        # The members of a packed group share its time.
        took = (status.get("seconds", 0.0) - e.spent) / (cost.members if cost else 1)
        name = run_name(e.config)
        rows.append({"run": name, "predicted_s": e.seconds, "actual_s": took, "source": e.source})
    frame = pd.DataFrame(rows, columns=["run", "predicted_s", "actual_s", "source"])
    if frame.empty:
        return "", frame
    before, after = frame["predicted_s"].sum(), frame["actual_s"].sum()
    sources = ", ".join(sorted(set(frame["source"])))
    ratio = f", {after / before:.2f} times that" if before >= _RATIO_FROM else ""
    text = (
        f"predicted {duration(before)} of training in {len(frame)} runs (by {sources}), took "
        f"{duration(after)}{ratio}; the sweep took "
        f"{duration(wall)}, predicted {duration(predicted.wall_seconds)}"
    )
    return text, frame


def write(frame: pd.DataFrame, folder: epath.PathLike) -> None:
    """`forecast.csv`: predicted and actual seconds of each run."""
    folder = epath.Path(folder)
    files.make_directory(folder)
    files.write_atomic(folder / "forecast.csv", frame.to_csv(index=False).encode())
