"""How long a sweep will take, from what its programs took before; and how long it took.

Takes resolved runs, a workdir and a device; gives seconds for each run that is still to do, from
the records of `scaling/timing.py`, or from FLOPs and a utilization where there is none, and says
which. Called by `sweep`, before the runs and after them.
"""

import datetime
import heapq
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import pandas as pd
from etils import epath

from scaling import costs, files, ladder, timing
from scaling.config import RunConfig, run_name
from scaling.records import RunDirectory
from scaling.status import ENDED
from scaling.timing import Cost
from scaling.units import duration

MFU = 0.3  # model FLOPs utilization that is taken where nothing was measured


@dataclass(frozen=True)
class Estimate:
    """Of one run."""

    config: RunConfig
    seconds: float | None  # still to come; None: the device's peak is not known
    source: str  # "record", "MFU 30%", or "ended"
    spent: float  # seconds that its status says it has taken so far


@dataclass(frozen=True)
class Forecast:
    """Of a sweep."""

    estimates: tuple[Estimate, ...]
    devices: int  # of a run
    slots: int  # runs at a time

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
        """Until the last run ends, each slot taking the longest run that is left."""
        slots = [0.0] * max(1, self.slots)
        for seconds in sorted((e.seconds or 0.0 for e in self.estimates), reverse=True):
            heapq.heapreplace(slots, slots[0] + seconds)
        return max(slots)

    def text(self) -> str:
        """A few lines for the dry run."""
        todo = [e for e in self.estimates if e.source != "ended"]
        if not todo:
            return "predicted: nothing is left to train"
        sources = {e.source: sum(o.source == e.source for o in todo) for e in todo}
        listed = ", ".join(f"{n} from {_source(name)}" for name, n in sources.items())
        unknown = sum(e.seconds is None for e in todo)
        ends = datetime.datetime.now() + datetime.timedelta(seconds=self.wall_seconds)
        lines = [
            f"predicted: {len(todo)} runs, {duration(self.seconds)} of training ({listed}), "
            f"{self.chip_hours:.3g} chip-hours; {self.slots} at a time they end in "
            f"{duration(self.wall_seconds)}, at {ends:%Y-%m-%d %H:%M}"
        ]
        if unknown:
            lines.append(f"not counted: {unknown} runs; the peak of this device is not known")
        return "\n".join(lines)


def _source(name: str) -> str:
    return "records of their programs" if name == "record" else f"FLOPs at an {name}"


def forecast(
    configs: Sequence[RunConfig],
    workdir: epath.PathLike,
    device: jax.Device,
    devices: int = 1,
    slots: int = 1,
    mfu: float | None = None,
    shared: Mapping[str, int] | None = None,
) -> Forecast:
    """Seconds of every run that has not ended.

    Args:
      configs: resolved.
      workdir: where the run directories are.
      device: one of those that will train.
      devices: of a run.
      slots: runs at a time; on a CPU they share the cores.
      mfu: where there is no record; None: that of records of other programs, else `MFU`.
      shared: updates that a run, by its name, is given by a trunk.
    """
    runs = [RunDirectory.open(config, workdir) for config in configs]
    programs = [timing.program(config) for config in configs]
    cores = timing.cores_here(device.platform)
    share = None if cores is None else max(1, cores // slots)
    here = device.device_kind, devices, share
    known = {name: _of_place(found, here) for name, found in timing.known(programs, runs).items()}
    measured = [c.mfu for found in known.values() for c in found if c.mfu]
    rate = mfu or (statistics.median(measured) if measured else MFU)
    label = f"MFU of {rate:.2g}" + ("" if mfu or not measured else " (of other programs here)")
    estimates, begun = [], set[str]()
    for config, run, name in zip(configs, runs, programs, strict=True):
        status = run.status()
        spent = status.get("seconds", 0.0)
        if status.get("state") in ENDED and status.get("state") != "failed":
            estimates.append(Estimate(config, 0.0, "ended", spent))
            continue
        given = max(status.get("step", 0), (shared or {}).get(run_name(config), 0))
        left = ladder.resolved(config.train.steps) - given
        if found := known.get(name):
            seconds: float | None = _from_record(config, found, left, first=name not in begun)
            begun.add(name)
            estimates.append(Estimate(config, seconds, "record", spent))
            continue
        peak = costs.peak_flops(device, config.model.dtype)
        if peak is not None and cores and share:
            peak *= share / cores
        cost = ladder.cost(config)
        flops = cost.flops * left / ladder.resolved(config.train.steps)
        seconds = None if peak is None else flops / (peak * devices * rate)
        estimates.append(Estimate(config, seconds, label, spent))
    return Forecast(tuple(estimates), devices, slots)


def _of_place(found: Iterable[Cost], here: tuple[str, int, int | None]) -> list[Cost]:
    """Records of this kind and number of devices; of those, with as many cores if there are any."""
    alike = [c for c in found if c.place[:2] == here[:2]]
    return [c for c in alike if c.place == here] or alike


def _from_record(config: RunConfig, found: Sequence[Cost], left: int, first: bool) -> float:
    """Seconds of the `left` steps of a run, by the medians of its program's records.

    What the first run of a program has compiled, the others find in jax's cache: the shortest
    compilation on record.
    """

    def median(values: Iterable[float | None]) -> float:
        return statistics.median([v or 0.0 for v in values])

    every = config.evals.every
    evaluations = left // every if every else 1
    return (
        median(c.other_s for c in found)
        + (median if first else min)(c.compile_s / c.members for c in found)
        + left * median(c.step_s / c.members for c in found)
        + max(1, evaluations) * median(c.eval_s for c in found)
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
    text = (
        f"predicted {duration(before)} of training in {len(frame)} runs (by {sources}), took "
        f"{duration(after)}, {after / max(before, 1e-9):.2f} times that; the sweep took "
        f"{duration(wall)}, predicted {duration(predicted.wall_seconds)}"
    )
    return text, frame


def write(frame: pd.DataFrame, folder: epath.PathLike) -> None:
    """`forecast.csv`: predicted and actual seconds of each run."""
    folder = epath.Path(folder)
    files.make_directory(folder)
    files.write_atomic(folder / "forecast.csv", frame.to_csv(index=False).encode())
