"""What a researcher reads while a sweep trains: plain lines on stderr.

One as each run ends, and at least one every `heartbeat.every()` seconds: which runs train, their
steps and rates, the time left of the whole sweep. The scheduler says what begins and ends; the rest
is read from the run directories, so that it is the same for every executor. `launch.py sweep` makes
one.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from etils import epath

from scaling import heartbeat
from scaling.config import RunConfig, amounts, run_name
from scaling.costs import sizes
from scaling.executors.jobs import Job
from scaling.executors.remaining import Sweep, Work
from scaling.executors.result import OVER, Result
from scaling.records import RunDirectory, timing
from scaling.records.conventions import main_metric
from scaling.records.status import validation_loss
from scaling.records.timing import Cost
from scaling.units import duration

_SHOWN = 4  # jobs a line that are named


class SweepProgress:
    """Follows a sweep from its plan to its end; close it.

    Args:
      configs: all runs of the study, resolved.
      jobs: those that are given to the executor.
      workdir: where the run directories are.
      slots: jobs at a time.
      known: what programs took before, as `Forecast.known` has it.
      on_look: given what is known at each line, for whoever measures the time left.
    """

    def __init__(
        self,
        configs: Sequence[RunConfig],
        jobs: Sequence[Job],
        workdir: epath.PathLike,
        slots: int = 1,
        known: Mapping[str, Sequence[Cost]] | None = None,
        on_look: Callable[[Sweep], None] = lambda sweep: None,
    ):
        self._workdir, self._count, self._slots = workdir, len(configs), slots
        self._known, self._on_look = known or {}, on_look
        self._start, self._lock = time.monotonic(), threading.Lock()
        statuses = {run_name(c): RunDirectory.open(c, workdir).status() for c in configs}
        # A run that was done before this sweep costs no time now.
        self._was_done = {name for name, s in statuses.items() if s.get("state") == "done"}
        self._ended = set(self._was_done)
        self._step = {name: status.get("step", 0) for name, status in statuses.items()}
        self._begun: dict[str, float] = {}  # by name of a run that trains, on the monotonic clock
        self._now: list[Cost] = []  # of runs that have ended
        # In the order in which the scheduler starts them.
        longest = sorted(jobs, key=lambda job: -sum(sizes.cost(c).flops for c in job.configs))
        self._jobs = [{run_name(c): c for c in job.configs} for job in longest]
        self._programs = [timing.program(job.configs[0]) for job in longest]
        self._leaves: dict[str, tuple[str, int]] = {}  # of a branch, its trunk and the steps shared
        for trunk, branch in (found for job in jobs for found in job.branches):
            self._leaves[run_name(branch.config)] = trunk, branch.step
        before = f"{len(self._ended)} done before, " if self._ended else ""
        todo = f"{before}{len(configs) - len(self._ended)} to do"
        self._beat = heartbeat.Heartbeat(self.line)
        self._say(f"{len(configs)} runs, {todo}, in {workdir}")

    def began(self, job: Job) -> None:
        """A job is given to a worker; again, when it is tried again."""
        with self._lock:
            self._begun |= dict.fromkeys(map(run_name, job.configs), time.monotonic())

    def ended(self, result: Result) -> None:
        """One run more has ended."""
        name, run = run_name(result.config), RunDirectory.open(result.config, self._workdir)
        with self._lock:
            self._begun.pop(name, None)
            if name in self._was_done:
                return
            self._ended.add(name)
            if cost := timing.of_run(run):
                self._now.append(cost)
        what = result.reason or ""
        if result.status == "done":
            loss = validation_loss(run)
            measure = main_metric(result.config.objective.name).label
            what = "" if loss is None else f"validation {measure} {loss:.4f}"
        place = f"[{len(self._ended)}/{self._count}]"
        self._say(f"{place} {result.status:8s} {name}  {what}  ({self._when()})")

    def line(self) -> str:
        """Which runs train, how fast, and how long all of them will take."""
        shown = [self._of_job(job) for job in self._running()]
        more = f"; and {len(shown) - _SHOWN} jobs more" if len(shown) > _SHOWN else ""
        what = "; ".join(shown[:_SHOWN]) + more or "nothing trains yet"
        return f"{len(self._ended)} of {self._count} runs ended; {what} ({self._when()})"

    def close(self) -> None:
        """No line comes after this."""
        self._beat.close()

    def __enter__(self) -> "SweepProgress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _say(self, text: str) -> None:
        self._beat.said()
        heartbeat.say(text)

    def _when(self) -> str:
        sweep = self.look()
        self._on_look(sweep)
        seconds, spent = sweep.seconds(), duration(time.monotonic() - self._start)
        left = "time left not known yet" if seconds is None else f"about {duration(seconds)} left"
        return f"after {spent}, {left}"

    # ---- what the directories say

    def _running(self) -> list[dict[str, RunConfig]]:
        """What is left of the jobs that train, by the names of the runs."""
        with self._lock:
            left = [self._left(job) for job in self._jobs]
            return [job for job in left if self._begun.keys() & job]

    def _left(self, job: dict[str, RunConfig]) -> dict[str, RunConfig]:
        return {name: config for name, config in job.items() if name not in self._ended}

    def _of_job(self, job: dict[str, RunConfig]) -> str:
        """ "<run> and 2 more step 120/400, 31.5 steps/s"."""
        (first, config), more = next(iter(job.items())), len(job) - 1
        name = first + (f" and {more} more" if more else "")
        status = self._status(config)
        if (rate := status.get("rate")) is None:
            seconds = time.monotonic() - self._begun.get(first, time.monotonic())
            return f"{name} is starting, {duration(seconds)}"
        return f"{name} step {status['step']}/{config.train.steps}, {rate:.3g} steps/s"

    def look(self) -> Sweep:
        """The jobs as they stand, and what was measured so far."""
        with self._lock:
            left = [(n, job) for n, j in enumerate(self._jobs) if (job := self._left(j))]
            begun, now = dict(self._begun), list(self._now)
        statuses = {
            name: self._status(c) for _, j in left for name, c in j.items() if name in begun
        }
        # One that has ended, but not yet for the scheduler, has nothing to do.
        over = {name for name, status in statuses.items() if status.get("state") in OVER}
        jobs = [(n, {name: c for name, c in job.items() if name not in over}) for n, job in left]
        left = [(n, job) for n, job in jobs if job]
        works = [self._work(self._programs[n], job, begun, statuses) for n, job in left]
        place = {name: i for i, (_, job) in enumerate(left) for name in job}
        for i, (_, job) in enumerate(left):
            trunk, at = self._leaves.get(next(iter(job)), ("", 0))
            if works[i].running is None and place.get(trunk, i) != i:
                behind = max(0.0, float(at - self._step[trunk]))
                works[i] = replace(works[i], trunk=place[trunk], behind=behind)
        now += [work.cost for work in works if work.cost is not None]
        return Sweep(self._slots, works, now, self._known)

    def _status(self, config: RunConfig) -> dict[str, Any]:
        return RunDirectory.open(config, self._workdir).status()

    def _work(
        self,
        program: str,
        job: dict[str, RunConfig],
        begun: dict[str, float],
        statuses: dict[str, dict[str, Any]],
    ) -> Work:
        """What a job has to do."""
        first, cost, since = next(iter(job.values())), None, begun.get(next(iter(job)))
        written = 0.0  # when the newest of its steps was
        for name in job if since is not None else ():
            status = statuses.get(name, {})
            self._step[name] = status.get("step", 0)
            written = max(written, status.get("clock", 0.0))
            if status.get("cost"):
                cost = cost or timing.from_dict(status["cost"])
        given = {name: self._leaves.get(name, ("", 0))[1] for name in job}
        todo = [
            amounts.resolved(config.train.steps) - max(self._step.get(name, 0), given[name])
            for name, config in job.items()
        ]
        every = first.evals.every
        return Work(
            program=program,
            members=len(job),
            steps=sum(todo) / len(todo),
            flops=sizes.step_flops(first),
            evaluations=max(1, round(max(todo) / every)) if every else 1,
            evaluation_steps=_evaluation_steps(first),
            running=None if since is None else time.monotonic() - since,
            cost=cost,
            ending=max(0.0, time.time() - written) if since is not None and not any(todo) else 0.0,
        )


def _evaluation_steps(config: RunConfig) -> float:
    """One evaluation of all sets, in training steps: a forward pass is a third of a step."""
    evals = config.evals
    windows = len(evals.sets) * evals.batches * evals.batch_size
    return windows / config.train.batch_size / 3
