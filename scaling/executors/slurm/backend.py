"""The Slurm executor: every job of a sweep is a task of a Slurm job array, through submitit.

Slurm queues and runs the tasks; the scheduler's process only looks on, and may be killed: before
each submission the runs of its tasks are written down under a token, which is part of the Slurm
job's name, so that the next scheduler finds the tasks that are still there and submits no run
twice. `scheduler.py` calls the backend; `task.py` is what runs in a task.
"""

import contextlib
import json
import math
import os
import pathlib
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath

from scaling import files
from scaling.config import run_name
from scaling.errors import UserError
from scaling.executors import result as result_lib
from scaling.executors import scheduler
from scaling.executors.jobs import Ended, Job
from scaling.executors.result import Result
from scaling.executors.slurm import queue
from scaling.executors.slurm.options import (
    SlurmOptions,
    check,
    node_devices,
    nodes_of,
    outside_of_a_job,
    parameters,
)
from scaling.executors.slurm.task import Task, results_files
from scaling.records import RunDirectory

LATE = 30.0  # seconds that a shared file system may need to show a file
BACK = 2.0  # seconds that Slurm may need to put a task that it ended back into the queue
AGAIN = 30.0  # seconds until a submission that failed is tried again
# In what sbatch says when the fault is not the job's.
_FOR_A_WHILE = ("unable to contact", "timed out", "temporarily", "connection", "communication")


def run_slurm(
    jobs: Sequence[Job],
    workdir: epath.PathLike,
    *,
    options: SlurmOptions,
    cpu_devices: int | None = None,
    **how: Any,
) -> list[Result]:
    """Train the runs of all jobs as tasks of Slurm; their results in the order of the jobs.

    Args:
      jobs: each run in one of them.
      workdir: where the run directories are, seen by all nodes.
      options: what is asked of Slurm.
      cpu_devices: devices into which each process splits its CPU; None: it does not.
      how: as for `scheduler.run_jobs`.
    """
    backend = SlurmBackend(workdir, options, cpu_devices)
    return scheduler.run_jobs(jobs, workdir, backend, **how)


@dataclass(eq=False)
class _Started:
    """A job of this scheduler."""

    number: int
    job: Job
    runs: frozenset[str]  # their names
    nodes: int  # that it needs
    over: float | None = None  # since when Slurm says so, on the monotonic clock


class SlurmBackend:
    """`Backend` for Slurm. Raises UserError where there is no Slurm, or no submitit."""

    slots: int | None = None

    def __init__(
        self, workdir: epath.PathLike, options: SlurmOptions, cpu_devices: int | None = None
    ):
        check(workdir, options)
        # Tasks may start in another directory.
        self._workdir = os.path.abspath(workdir) if files.is_local(workdir) else str(workdir)
        self._options, self._cpu_devices = options, cpu_devices
        self._folder = pathlib.Path(options.folder or f"{self._workdir}/slurm").absolute()
        files.make_directory(self._folder)
        self._said: set[str] = set()  # reasons for which a task waits
        self._settled: list[Ended] = []  # to be told at the next `wait`
        self._new: list[_Started] = []  # not yet submitted
        self._tasks: dict[str, _Started] = {}
        self._looked, self._tried, self._stopped = -math.inf, -math.inf, False
        self._to_cancel: list[str] = []  # tasks of which Slurm has not been told
        entries = queue.read()
        if entries is None:
            raise UserError("Slurm does not answer (squeue failed); is its controller up?")
        # Tasks that an earlier scheduler submitted and that are still there: id -> runs.
        self._others = _still_there(self._ledger, entries)
        if self._others:
            print(f"Slurm: {len(self._others)} tasks of before are still in Slurm", file=sys.stderr)

    @property
    def _ledger(self) -> pathlib.Path:
        return self._folder / "submitted.jsonl"

    def devices(self, job: Job) -> int:
        """Of its nodes, as far as the options say."""
        nodes = nodes_of(job, self._options, self._cpu_devices)
        return nodes * node_devices(self._options, self._cpu_devices)

    def start(self, number: int, job: Job) -> None:
        """It is submitted at the next `wait`, in one array with the others."""
        nodes = nodes_of(job, self._options, self._cpu_devices)
        self._new.append(_Started(number, job, _runs(job), nodes))

    def wait(self, seconds: float) -> list[Ended]:
        """Jobs that ended since the last call; waits up to so long for the first."""
        self._adopt()
        self._submit()
        if self._settled:
            settled, self._settled = self._settled, []
            return settled
        until = time.monotonic() + seconds
        while True:
            due = self._looked + self._options.poll
            if time.monotonic() >= due:
                self._looked = time.monotonic()
                if ended := self._look():
                    return ended
            elif due >= until:
                time.sleep(max(0.0, until - time.monotonic()))
                return []
            else:
                time.sleep(due - time.monotonic())

    def stop(self) -> None:
        """Cancel every task of these jobs; those that run save their state first."""
        self._stopped = True
        self._to_cancel = [*self._tasks, *_awaited(self._others, (s.runs for s in self._new))]
        self._settled += [Ended(s.number, _as_stopped(s.job, self._workdir)) for s in self._new]
        self._new = []
        self._cancel()

    def _cancel(self) -> None:
        if queue.cancel(self._to_cancel):
            self._to_cancel = []
        else:
            many = len(self._to_cancel)
            print(f"Slurm does not answer: {many} tasks are not cancelled yet", file=sys.stderr)

    def close(self) -> None:
        """Nothing is held. Tasks that are still there stay there."""

    # ---- submitting

    def _adopt(self) -> None:
        """A job whose task an earlier scheduler submitted is that task."""
        ids = {runs: id for id, runs in self._others.items()}
        for started in [s for s in self._new if s.runs in ids]:
            id = ids.pop(started.runs)
            self._tasks[id] = started
            del self._others[id]
            self._new.remove(started)

    def _submit(self) -> None:
        """Submit what may run: as one array for each number of nodes."""
        if self._stopped or not self._new or time.monotonic() < self._tried + AGAIN:
            return
        # A run that is in a task of an earlier scheduler waits for the end of that task.
        taken = set().union(*self._others.values())
        free = [started for started in self._new if taken.isdisjoint(started.runs)]
        for nodes in sorted({started.nodes for started in free}):
            group = [started for started in free if started.nodes == nodes]
            while group and (count := min(self._room(), len(group))) > 0:
                if not self._submit_array(nodes, group[:count]):
                    break
                group = group[count:]

    def _room(self) -> int:
        """How many tasks may be submitted now.

        The first array holds the rest of the sweep, and Slurm sees to the limit. What comes later
        (jobs tried again) must fit beside what that array may run at a time.
        """
        there = (*self._tasks, *self._others)
        room, limit = self._options.queued - len(there), self._options.array_parallelism
        if limit is None or not there:
            return room
        arrays = Counter(id.partition("_")[0] for id in there)
        return min(room, limit - sum(min(limit, count) for count in arrays.values()))

    def _submit_array(self, nodes: int, group: Sequence[_Started]) -> bool:
        """False if Slurm did not take it; its jobs are then tried later, or have failed."""
        from submitit import SlurmExecutor

        token = uuid.uuid4().hex[:12]
        line = {"token": token, "tasks": [sorted(started.runs) for started in group]}
        files.append(self._ledger, (json.dumps(line) + "\n").encode())
        tasks = [
            Task(started.job.to_dict(), self._workdir, str(self._folder), self._cpu_devices)
            for started in group
        ]
        try:
            with outside_of_a_job():
                executor = SlurmExecutor(self._folder, max_num_timeout=10**6)
                executor.update_parameters(
                    job_name=f"scaling-{token}",
                    nodes=nodes,
                    array_parallelism=self._options.array_parallelism or len(group),
                    **parameters(self._options),
                )
                submitted = executor.submit_array(tasks)
        except RuntimeError as error:  # what submitit makes of sbatch's failure
            self._not_taken(group, str(error))
            return False
        for job, started in zip(submitted, group, strict=True):
            self._tasks[job.job_id] = started
            self._new.remove(started)
        array = submitted[0].job_id.partition("_")[0]
        many = f"{len(group)} task{'s' if len(group) > 1 else ''}"
        print(f"Slurm: {many} submitted as {array}; logs in {self._folder}", file=sys.stderr)
        return True

    def _not_taken(self, group: Sequence[_Started], message: str) -> None:
        said = "; ".join(x.removeprefix("sbatch: error: ") for x in message.splitlines())
        reason = f"Slurm did not take it: {said}"
        if any(sign in message.lower() for sign in _FOR_A_WHILE):
            print(f"{reason}; tried again in {AGAIN:.0f} s", file=sys.stderr)
            self._tried = time.monotonic()
            return
        for started in group:
            results = (Result(c, "failed", reason, "config") for c in started.job.configs)
            self._settled.append(Ended(started.number, tuple(results)))
            self._new.remove(started)

    # ---- looking

    def _look(self) -> list[Ended]:
        entries = queue.read()
        if entries is None:
            return []  # the controller is away for a moment; the tasks go on without it
        if self._to_cancel:
            self._cancel()
        # From the ledger again: sbatch may have failed on the way back, with the tasks submitted.
        if self._others or self._new:
            there = _still_there(self._ledger, entries)
            self._others = {id: runs for id, runs in there.items() if id not in self._tasks}
        ended, now = [], time.monotonic()
        for id, task in list(self._tasks.items()):
            if _is_there(id, entries):
                task.over = None
                self._say_if_stuck(entries[id])
                continue
            task.over = task.over or now
            entry = entries.get(id)
            results = result_lib.read(task.job.configs, results_files(self._folder, id))
            if now - task.over < _patience(entry, results):
                continue
            del self._tasks[id]
            ended.append(self._ended(id, entry, task, results))
        return ended

    def _say_if_stuck(self, entry: queue.Entry) -> None:
        """Once for each reason."""
        if entry.is_stuck and entry.reason not in self._said:
            self._said.add(entry.reason)
            print(f"Slurm: task {entry.id} waits for {entry.reason}", file=sys.stderr)

    def _ended(
        self,
        id: str,
        entry: queue.Entry | None,
        task: _Started,
        results: tuple[Result, ...] | None,
    ) -> Ended:
        log = str(self._folder / f"{id}_0_log.out")
        if results is None and self._stopped:
            results = _as_stopped(task.job, self._workdir)
        if results is not None:
            return Ended(task.number, results, log=log)
        death = queue.death(id, entry)
        return Ended(task.number, None, death.text, death.exit_code, death.failure, log)


def _patience(entry: queue.Entry | None, results: Sequence[Result] | None) -> float:
    """Seconds for which a task must be over before it is believed."""
    if results is None:
        return LATE if entry is None or entry.state == "COMPLETED" else BACK
    # What was told to stop may be on its way back into the queue.
    return BACK if any(r.status in ("stopped", "pending") for r in results) else 0.0


def _awaited(others: Mapping[str, frozenset[str]], waiting: Iterable[frozenset[str]]) -> list[str]:
    """Tasks of an earlier scheduler that have runs of jobs which wait, grouped otherwise. What else
    is in the ledger may be another sweep's.
    """
    runs = set().union(*waiting)
    return [id for id, theirs in others.items() if not theirs.isdisjoint(runs)]


def _runs(job: Job) -> frozenset[str]:
    return frozenset(run_name(config) for config in job.configs)


def _is_there(id: str, entries: dict[str, queue.Entry]) -> bool:
    return id in entries and not entries[id].is_over


def _still_there(
    ledger: pathlib.Path, entries: dict[str, queue.Entry]
) -> dict[str, frozenset[str]]:
    """Runs of the tasks of the ledger that Slurm still has, by the task's id."""
    if not ledger.exists():
        return {}
    submitted = {}
    for text in ledger.read_bytes().splitlines():
        with contextlib.suppress(ValueError):  # a line that a kill tore was never submitted
            line = json.loads(text)
            submitted[f"scaling-{line['token']}"] = [frozenset(runs) for runs in line["tasks"]]
    return {
        id: submitted[entry.name][int(id.partition("_")[2] or 0)]
        for id, entry in entries.items()
        if entry.name in submitted and not entry.is_over
    }


def _as_stopped(job: Job, workdir: str) -> tuple[Result, ...]:
    states = [RunDirectory.open(config, workdir).status() for config in job.configs]
    ended = {"running": "stopped", "damaged": "stopped"}
    return tuple(
        Result(config, ended.get(s["state"], s["state"]), s.get("reason"))
        if s
        else Result(config, "pending")
        for config, s in zip(job.configs, states, strict=True)
    )
