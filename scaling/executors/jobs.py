"""A job: what one worker process, one Slurm task or one pod is asked to do, and how it ended.

The planner makes jobs from a list of resolved runs; a backend (local processes, Slurm, a pod) takes
them to where `run_job` trains them. A job survives as JSON, so that every place gets the same.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from etils import epath

from scaling.config import RunConfig, from_dict, run_name, to_dict
from scaling.devices import distributed
from scaling.errors import UserError
from scaling.executors.result import OVER, Result
from scaling.records import RunDirectory
from scaling.train.failures import Failure, classify

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Branch:
    """A run that begins from another one's state."""

    step: int  # updates that it shares with the trunk
    config: RunConfig


@dataclass(frozen=True)
class Job:
    """Runs that one program trains: one run, or the members of a packed group."""

    configs: tuple[RunConfig, ...]  # resolved
    branches: tuple[tuple[str, Branch], ...] = ()  # name of a run of this job, and what leaves it
    trunks: tuple[str, ...] = ()  # names of the runs whose branches runs of this job are
    parents: tuple[str, ...] = ()  # names of the runs whose last states runs of this job begin with
    # Name of a run of this job, and the updates after which it is evaluated and left as it is.
    pauses: tuple[tuple[str, int], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON; `from_dict` reads it back to an equal job."""
        return {
            "configs": [to_dict(config) for config in self.configs],
            "branches": [
                {"trunk": trunk, "step": branch.step, "config": to_dict(branch.config)}
                for trunk, branch in self.branches
            ],
            "trunks": list(self.trunks),
            "parents": list(self.parents),
            "pauses": [list(pause) for pause in self.pauses],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Job":
        """The job that `to_dict` wrote."""
        branches = (
            (b["trunk"], Branch(b["step"], from_dict(b["config"]))) for b in values["branches"]
        )
        return cls(
            tuple(from_dict(config) for config in values["configs"]),
            tuple(branches),
            tuple(values["trunks"]),
            tuple(values["parents"]),
            tuple((name, step) for name, step in values["pauses"]),
        )

    def branches_of(self, config: RunConfig) -> dict[int, list[RunConfig]]:
        """What leaves one of the runs, under the number of updates shared."""
        found: dict[int, list[RunConfig]] = {}
        for trunk, branch in self.branches:
            if trunk == run_name(config):
                found.setdefault(branch.step, []).append(branch.config)
        return found

    def pause_of(self, config: RunConfig) -> int | None:
        """Updates after which one of the runs pauses."""
        return dict(self.pauses).get(run_name(config))


def each(configs: Sequence[RunConfig]) -> list[Job]:
    """A job for each run."""
    return [Job((config,)) for config in configs]


def over(job: Job, workdir: epath.PathLike) -> tuple[Result, ...] | None:
    """Results of a job whose runs have all ended; None: there is something to do."""
    results = [ended(job, config, workdir) for config in job.configs]
    return None if None in results else tuple(result for result in results if result)


def ended(job: Job, config: RunConfig, workdir: epath.PathLike) -> Result | None:
    """Result of a run that is done or has diverged, or has paused where its job says; None: it has
    something to do.
    """
    run, pause = RunDirectory.open(config, workdir), job.pause_of(config)
    status = run.status()
    if (state := status.get("state")) in OVER:
        return Result(config, state, status.get("reason"))
    if pause is None or state != "stopped" or status.get("step", 0) < pause:
        return None
    judged = {line["split"] for line in run.metrics() if line["step"] == pause}
    paused = judged >= set(config.evals.sets)
    return Result(config, "paused", status.get("reason")) if paused else None


@dataclass(frozen=True)
class Ended:
    """A job that a backend started and that has ended, in whichever way."""

    number: int  # given at `start`
    results: tuple[Result, ...] | None  # in the order of the job's configs; None: it died
    death: str | None = None  # how, for a person: "signal 9", "node n1 failed"
    exit_code: int | None = None  # negative: a signal
    failure: Failure | None = None  # of a death, as far as the place knows; None: "lost"
    log: str | None = None  # where it wrote


class Backend(Protocol):
    """A place where jobs run. One thread calls it: `scheduler.run_jobs`.

    A job that was started is reported by `wait` once: with results when `run_job` came to its end
    (also of a job that was told to stop: "stopped", or "pending" when it had not begun), else as a
    death, which the scheduler answers by starting what is left of it under another number.
    """

    slots: int | None  # jobs at a time; None: it queues by itself

    def devices(self, job: Job) -> int:
        """That a job has there, as far as is known."""

    def start(self, number: int, job: Job) -> None:
        """Begin a job; returns at once. Called while fewer than `slots` are begun."""

    def wait(self, seconds: float) -> list[Ended]:
        """Jobs that ended since the last call; waits up to so long for the first."""

    def stop(self) -> None:
        """Tell every job to save its state and end; `wait` still reports them."""

    def close(self) -> None:
        """Let go of processes and connections."""


def run_job(
    job: Job,
    workdir: epath.PathLike,
    *,
    devices: Sequence[Any] | None = None,
    stop: threading.Event | None = None,
    quiet: bool = False,
) -> tuple[Result, ...]:
    """Train a job in this process; errors of any kind become results.

    Several processes of a session train it together, and have the same results. One with which
    something went wrong alone has only failures, and must end at once: the others wait for it.
    """
    from scaling.train.loop import train
    from scaling.train.packed import train_packed

    how: dict[str, Any] = {"devices": devices, "stop": stop, "quiet": quiet}
    branches = [job.branches_of(config) for config in job.configs]
    pauses = [job.pause_of(config) for config in job.configs]
    outcomes: Sequence[Any]
    try:
        if len(job.configs) > 1:
            outcomes = train_packed(job.configs, workdir, branches=branches, pauses=pauses, **how)
            # What one process met, the others only heard of.
            return _as_process_0(_results(job, outcomes))
        outcomes = [train(job.configs[0], workdir, branches=branches[0], pause=pauses[0], **how)]
    except Exception as error:
        outcomes = [error] * len(job.configs)
    return _results(job, outcomes)


def _as_process_0(results: tuple[Result, ...]) -> tuple[Result, ...]:
    rows = distributed.gather([(r.status, r.reason, r.failure) for r in results])[0]
    return tuple(Result(r.config, *row) for r, row in zip(results, rows, strict=True))


def _results(job: Job, outcomes: Sequence[Any]) -> tuple[Result, ...]:
    each = zip(job.configs, outcomes, strict=True)
    return tuple(_result(config, outcome, job.pause_of(config)) for config, outcome in each)


def _result(config: RunConfig, outcome: Any, pause: int | None) -> Result:
    """`outcome`: what `train` gives, or what it raised."""
    if isinstance(outcome, UserError):
        return Result(config, "failed", str(outcome), classify(outcome))
    if isinstance(outcome, Exception):
        log.warning("%s failed", run_name(config), exc_info=outcome)
        reason = f"{type(outcome).__name__}: {outcome}"
        return Result(config, "failed", reason, classify(outcome))
    paused = outcome.status == "stopped" and pause is not None and outcome.step >= pause
    return Result(config, "paused" if paused else outcome.status, outcome.reason)
