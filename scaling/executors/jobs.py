"""A job: what one worker process, one Slurm task or one pod is asked to do, and how it ended.

The planner makes jobs from a list of resolved runs; a backend (local processes, Slurm, a pod) takes
them to where `run_job` trains them. A job survives as JSON, so that every place gets the same.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from etils import epath

from scaling.config import RunConfig, from_dict, to_dict
from scaling.executors.result import Result


@dataclass(frozen=True)
class Job:
    """Runs that one program trains: one run, or the members of a packed group."""

    configs: tuple[RunConfig, ...]  # resolved

    def to_dict(self) -> dict[str, Any]:
        """As JSON; `from_dict` reads it back to an equal job."""
        return {"configs": [to_dict(config) for config in self.configs]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Job":
        """The job that `to_dict` wrote."""
        return cls(tuple(from_dict(config) for config in values["configs"]))


@dataclass(frozen=True)
class Ended:
    """A job that a backend started and that has ended, in whichever way."""

    number: int  # given at `start`
    results: tuple[Result, ...] | None  # in the order of the job's configs; None: it died
    death: str | None = None  # how, for a person: "signal 9", "node n1 failed"
    exit_code: int | None = None  # negative: a signal
    log: str | None = None  # where it wrote


class Backend(Protocol):
    """A place where jobs run. One thread calls it."""

    slots: int | None  # jobs at a time; None: it queues by itself

    def start(self, number: int, job: Job) -> None:
        """Begin a job; returns at once."""

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
    """Train a job in this process; errors of any kind become results."""
    from scaling.errors import UserError
    from scaling.train.loop import train

    (config,) = job.configs
    try:
        outcome = train(config, workdir, devices=devices, stop=stop, quiet=quiet)
    except UserError as error:
        return (Result(config, "failed", str(error)),)
    except Exception as error:
        return (Result(config, "failed", f"{type(error).__name__}: {error}"),)
    return (Result(config, outcome.status, outcome.reason),)
