"""The one scheduler: a list of jobs in, a result for every run out, wherever the jobs run.

One thread and one loop over a `Backend`: start what fits, longest first; wait; answer what ended
badly (`healing.py`), and write each bad end into the run's `attempts.jsonl` before the next attempt
begins. Nothing else is remembered: a scheduler that is killed is replaced by starting it again.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from etils import epath

from scaling import files
from scaling.config import fingerprint, run_name
from scaling.costs import sizes
from scaling.errors import DamagedError, UserError
from scaling.executors import admission, disk, healing
from scaling.executors import jobs as jobs_lib
from scaling.executors.healing import USUAL, Answer, Bounds
from scaling.executors.jobs import Backend, Ended, Job, over
from scaling.executors.result import Result
from scaling.records import RunDirectory
from scaling.train.failures import Failure

_LOOK = 0.5  # seconds between looks at the stop event


def run_jobs(
    jobs: Sequence[Job],
    workdir: epath.PathLike,
    backend: Backend,
    *,
    stop: threading.Event | None = None,
    on_result: Callable[[Result], None] = lambda result: None,
    on_start: Callable[[Job], None] = lambda job: None,
    bounds: Bounds = USUAL,
) -> list[Result]:
    """Train the runs of all jobs; their results in the order of the jobs.

    Args:
      jobs: each run in one of them.
      workdir: where the run directories are.
      backend: where jobs run; closed at the end.
      stop: when set, running jobs are saved and the rest stays pending.
      on_result: called once for each run, when its end is final.
      on_start: called for each job as it is begun, and again when it is tried again.
      bounds: how long failures are answered by another attempt.
    """
    scheduler = _Scheduler(workdir, backend, stop or threading.Event(), on_result, on_start, bounds)
    try:
        scheduler.run(jobs)
    finally:
        backend.close()
    results = scheduler.results
    return [
        results.get(fingerprint(config), Result(config, "pending"))
        for job in jobs
        for config in job.configs
    ]


@dataclass(frozen=True)
class _Waiting:
    """A job that is not running, and what its earlier attempts came to."""

    job: Job
    begins: float = 0.0  # on the monotonic clock
    reached: Mapping[str, int] = field(default_factory=dict)  # farthest step of each run so far
    fruitless: int = 0  # attempts in a row that did not get any run farther
    since: float | None = None  # since when it waits for a lock or for space
    failed: tuple[Result, ...] = ()  # of its last attempt

    @property
    def flops(self) -> float:
        return sum(sizes.cost(config).flops for config in self.job.configs)


class _Scheduler:
    def __init__(
        self,
        workdir: epath.PathLike,
        backend: Backend,
        stop: threading.Event,
        on_result: Callable[[Result], None],
        on_start: Callable[[Job], None],
        bounds: Bounds,
    ):
        self._workdir, self._backend, self._stop = epath.Path(workdir), backend, stop
        self._on_result, self._on_start, self._bounds = on_result, on_start, bounds
        self.results: dict[str, Result] = {}
        self._waiting: list[_Waiting] = []
        self._running: dict[int, _Waiting] = {}
        self._needed = 0  # bytes that must be free before anything begins; 0: the disk is not full
        self._unwritten: list[tuple[RunDirectory, dict]] = []  # attempts, while the disk is full

    def run(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if results := over(job, self._workdir):
                for result in results:
                    self._final(result)
            else:
                self._waiting.append(_Waiting(self._as_recorded(job)))
        # Longest first: the last job to start is then a short one, and no slot waits long for it.
        self._waiting.sort(key=lambda waiting: -waiting.flops)
        number, told = 0, False
        while self._running or (self._waiting and not self._stop.is_set()):
            if self._stop.is_set() and not told:
                self._backend.stop()
                told = True
            self._look_for_space()
            while not told and self._has_slot() and (waiting := self._next()):
                self._waiting.remove(waiting)
                self._running[number] = waiting
                self._on_start(waiting.job)
                self._backend.start(number, waiting.job)
                number += 1
            if self._running:
                for ended in self._backend.wait(_LOOK):
                    self._ended(self._running.pop(ended.number), ended)
            else:
                self._stop.wait(_LOOK)
        self._write_attempts()

    def _has_slot(self) -> bool:
        return self._backend.slots is None or len(self._running) < self._backend.slots

    def _next(self) -> _Waiting | None:
        now = time.monotonic()
        may = [] if self._needed else self._waiting  # on a full disk each would only fail
        return next((w for w in may if w.begins <= now and self._is_ready(w.job)), None)

    def _is_ready(self, job: Job) -> bool:
        """Whether its runs have begun from their trunks, or will not any more, and the runs that
        they begin with have ended, in whichever way: without one of them a run says so and fails.
        """
        if not job.trunks and not job.parents:
            return True
        here = [w.job for w in (*self._waiting, *self._running.values())]
        going = {run_name(config) for other in here for config in other.configs}
        if not going.isdisjoint(job.parents):
            return False
        if going.isdisjoint(job.trunks):
            return True
        runs = [RunDirectory.open(config, self._workdir) for config in job.configs]
        return all(_has_begun(run) for run in runs)

    def _look_for_space(self) -> None:
        """On a full disk: go on when there is space; after the bound, give everything up."""
        if not self._needed:
            return
        if disk.has_room(self._workdir, self._needed):
            self._needed = 0
            return
        now = time.monotonic()
        for waiting in self._waiting:
            if waiting.since is None or waiting.failed[0].failure != "disk":
                continue
            config, waited = waiting.failed[0].config, now - waiting.since
            answer = healing.answer("disk", 1, config, waited=waited, bounds=self._bounds)
            if answer.action == "give up":
                self._give_everything_up(answer)
                return

    def _give_everything_up(self, answer: Answer) -> None:
        """What has failed, in whichever way, cannot be tried again; the rest stays pending."""
        given_up, self._waiting, self._needed = self._waiting, [], 0
        for result in (result for waiting in given_up for result in waiting.failed):
            if result.status == "failed":
                self._give_up(result, "busy" if result.failure == "busy" else "disk", answer)
            else:
                self._final(result)

    def _as_recorded(self, job: Job) -> Job:
        """The job with what earlier attempts of its runs had to change."""
        configs, devices = job.configs, self._backend.devices(job)
        for config in job.configs:  # one program: what one of them needs, all have
            changed = RunDirectory.open(config, self._workdir).changed()
            configs = tuple(healing.as_recorded(c, changed, devices) for c in configs)
        return replace(job, configs=configs)

    # ---- what ended

    def _ended(self, waiting: _Waiting, ended: Ended) -> None:
        job = waiting.job
        results = ended.results or tuple(self._after_death(job, ended))
        left: dict[Failure, list[Result]] = {}
        for result in results:
            if result.status == "failed":
                left.setdefault(result.failure or "error", []).append(result)
            elif result.status in ("stopped", "pending") and not self._stop.is_set():
                left.setdefault("preempted", []).append(result)
            else:
                self._final(result)
        for failure, failed in left.items():
            self._answer(waiting, failure, failed)

    def _after_death(self, job: Job, ended: Ended) -> list[Result]:
        """Results of a job that died: what was done before is done."""
        where = f"; its log is {ended.log}" if ended.log else ""
        out = []
        for config in job.configs:
            if result := jobs_lib.ended(job, config, self._workdir):
                out.append(result)
            else:
                reason = f"{ended.death or 'its process ended'}{where}"
                out.append(Result(config, "failed", reason, ended.failure or "lost"))
        return out

    def _answer(self, waiting: _Waiting, failure: Failure, failed: list[Result]) -> None:
        if self._stop.is_set():
            for result in failed:
                # Answered, if at all, by the next scheduler; a death by then is a stop like others.
                died = result.failure in ("lost", "busy")
                self._final(replace(result, status="stopped" if died else result.status))
            return
        names = [run_name(r.config) for r in failed]
        steps = [_step(RunDirectory.open(r.config, self._workdir)) for r in failed]
        farther = [s for n, s in zip(names, steps, strict=True) if s > waiting.reached.get(n, -1)]
        got_on = farther or len(failed) < len(waiting.job.configs)
        fruitless = 1 if got_on else waiting.fruitless + 1
        reached = {
            name: max(step, waiting.reached.get(name, -1))
            for name, step in zip(names, steps, strict=True)
        }
        now = time.monotonic()
        waits = failure in ("busy", "disk")
        since = (waiting.since or now) if waits and fruitless > 1 else now
        answer = healing.answer(
            failure,
            len(failed),
            failed[0].config,
            fruitless=fruitless,
            waited=now - since,
            devices=self._backend.devices(waiting.job),
            bounds=self._bounds,
        )
        if failure == "disk" and answer.action == "again":
            self._needed = disk.bytes_needed([r.config for r in failed])
        first_wait = waiting.since is None or not waits
        for result in failed:
            if failure != "busy" and (first_wait or answer.action == "give up"):
                self._add_attempt(result, failure, answer)
        if answer.action == "give up":
            for result in failed:
                self._give_up(result, failure, answer)
            return
        configs = tuple(healing.healed(r.config, answer.changed) for r in failed)
        again = replace(
            waiting,
            job=replace(waiting.job, configs=configs),
            begins=now + answer.seconds,
            reached=reached,
            fruitless=fruitless,
            since=since if waits else None,
            failed=tuple(failed),
        )
        parts = [again]
        if answer.action == "halves":
            middle = len(configs) // 2
            parts = [
                _Waiting(replace(again.job, configs=half))
                for half in (configs[:middle], configs[middle:])
            ]
        # At the head: a job that was begun is ended before others are begun.
        self._waiting[:0] = parts

    def _add_attempt(self, result: Result, failure: Failure, answer: Answer) -> None:
        run = RunDirectory.open(result.config, self._workdir)
        line = {
            "failure": failure,
            "reason": result.reason,
            "answer": answer.text,
            "changed": dict(answer.changed),
            "step": _step(run),
        }
        self._unwritten.append((run, line))
        self._write_attempts()
        print(
            f"{failure}: {run_name(result.config)}: {result.reason} [{answer.text}]",
            file=sys.stderr,
            flush=True,
        )

    def _write_attempts(self) -> None:
        """On a full disk they wait in memory for the next time."""
        while self._unwritten:
            run, line = self._unwritten[0]
            try:
                run.add_attempt(**line)
            except UserError:
                return
            del self._unwritten[0]

    def _give_up(self, result: Result, failure: Failure, answer: Answer) -> None:
        reason = result.reason or failure
        if failure == "disk" and "file system" not in reason:
            reason = f"{reason} ({files.space(self._workdir)})"
        if failure in ("lost", "busy", "disk", "memory"):
            reason = f"{reason}; {answer.text}"
        if failure != "busy":  # its directory is another process's
            run = RunDirectory.open(result.config, self._workdir)
            with contextlib.suppress(UserError):
                admission.write_config(result.config, self._workdir)
                run.write_status("failed", reason=reason)
        self._final(replace(result, reason=reason))

    def _final(self, result: Result) -> None:
        self.results[fingerprint(result.config)] = result
        self._on_result(result)


def _has_begun(run: RunDirectory) -> bool:
    """Whether a branch has got its state from its trunk, as far as can be read."""
    try:
        return bool(run.branch() and run.status())
    except DamagedError:
        return True


def _step(run: RunDirectory) -> int:
    """The farthest step that is known of a run."""
    steps = [line["step"] for line in run.intact()[0][-1:]] if run.path.exists() else []
    return max([0, run.status().get("step", 0) if run.path.exists() else 0, *steps])
