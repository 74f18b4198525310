"""The Slurm executor: every job of a sweep is a task of a Slurm job array, through submitit.

Slurm queues and runs the tasks; the scheduler's process only looks on, and may be killed: before
each submission the runs of its tasks are written down under a token, which is part of the Slurm
job's name, so that the next scheduler finds the tasks that are still there and submits no run
twice. `scheduler.py` calls the backend; `slurm_task.py` is what runs in a task.
"""

import contextlib
import json
import math
import os
import pathlib
import shutil
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath

from scaling import files
from scaling.config import run_name, to_dict
from scaling.errors import UserError
from scaling.executors import scheduler, slurm_queue
from scaling.executors.healing import USUAL, Bounds
from scaling.executors.jobs import Ended, Job
from scaling.executors.options import option
from scaling.executors.result import Result
from scaling.executors.slurm_task import Task, read_results
from scaling.records import RunDirectory

REPOSITORY = pathlib.Path(__file__).parents[2]
LATE = 30.0  # seconds that a shared file system may need to show a file
LARGEST = 1000  # tasks of an array: Slurm's own limit (MaxArraySize) is 1001 unless changed


@dataclass(frozen=True)
class SlurmOptions:
    """What is asked of Slurm for every task; None: the cluster's default."""

    partition: str | None = option(None, "partition")
    account: str | None = option(None, "account")
    qos: str | None = option(None, "quality of service")
    time: int = option(60, "minutes; then the state is saved and the task queued again")
    save: int = option(90, "seconds before the time limit at which a task begins to save")
    nodes: int | None = option(None, "nodes of a run; default: as many as its mesh needs")
    tasks_per_node: int = option(1, "processes of a run on each node")
    cpus: int | None = option(None, "cores of a process")
    gpus: int | None = option(None, "GPUs of a node")
    mem: float | None = option(None, "GB of a node")
    constraint: str | None = option(None, "features that a node must have")
    exclude: str | None = option(None, "nodes not to use")
    array_parallelism: int | None = option(None, "tasks that may run at a time; default: no limit")
    setup: tuple[str, ...] = option((), "a shell line to run before the task; may be repeated")
    extra: tuple[str, ...] = option(
        (), "name=value for sbatch, such as reservation=mine; may be repeated"
    )
    folder: str | None = option(None, "shared folder of logs; default <workdir>/slurm")
    poll: float = option(5.0, "seconds between looks at the queue")


def run_slurm(
    jobs: Sequence[Job],
    workdir: epath.PathLike,
    *,
    options: SlurmOptions = SlurmOptions(),
    cpu_devices: int | None = None,
    stop: threading.Event | None = None,
    on_result: Callable[[Result], None] = lambda result: None,
    bounds: Bounds = USUAL,
) -> list[Result]:
    """Train the runs of all jobs as tasks of Slurm; their results in the order of the jobs.

    Args:
      jobs: each run in one of them.
      workdir: where the run directories are, seen by all nodes.
      options: what is asked of Slurm.
      cpu_devices: devices into which each process splits its CPU; None: it does not.
      stop: when set, running runs are saved, and what is queued is cancelled.
      on_result: called for each run as it ends.
      bounds: how long failures are answered by another attempt.
    """
    backend = SlurmBackend(workdir, options, cpu_devices)
    return scheduler.run_jobs(jobs, workdir, backend, stop=stop, on_result=on_result, bounds=bounds)


@dataclass
class _Started:
    """A job of this scheduler that is a task of Slurm."""

    number: int
    job: Job
    over: float | None = None  # since when Slurm says so, on the monotonic clock


class SlurmBackend:
    """`Backend` for Slurm. Raises UserError where there is no Slurm, or no submitit."""

    slots: int | None = None

    def __init__(
        self, workdir: epath.PathLike, options: SlurmOptions, cpu_devices: int | None = None
    ):
        _check(workdir, options)
        # Tasks may start in another directory.
        self._workdir = os.path.abspath(workdir) if files.is_local(workdir) else str(workdir)
        self._options, self._cpu_devices = options, cpu_devices
        self._folder = pathlib.Path(options.folder or f"{self._workdir}/slurm").absolute()
        files.make_directory(self._folder)
        self._settled: list[Ended] = []  # to be told at the next `wait`
        self._new: list[tuple[int, Job]] = []  # started, not yet submitted
        self._tasks: dict[str, _Started] = {}
        self._looked, self._stopped = -math.inf, False
        entries = slurm_queue.read()
        if entries is None:
            raise UserError("Slurm does not answer (squeue failed); is its controller up?")
        # Tasks that an earlier scheduler submitted and that are still there: id -> runs.
        self._others = _still_there(self._ledger, entries)
        if self._others:
            print(f"Slurm: {len(self._others)} tasks of before are still in Slurm", file=sys.stderr)

    @property
    def _ledger(self) -> pathlib.Path:
        return self._folder / "submitted.jsonl"

    def start(self, number: int, job: Job) -> None:
        """It is submitted at the next `wait`, in one array with the others; not if all of its runs
        have ended: no task is spent on that.
        """
        states = [RunDirectory.open(c, self._workdir).status() for c in job.configs]
        if all(s.get("state") in ("done", "diverged") for s in states):
            results = (
                Result(c, s["state"], s.get("reason"))
                for c, s in zip(job.configs, states, strict=True)
            )
            self._settled.append(Ended(number, tuple(results)))
        else:
            self._new.append((number, job))

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
        """Cancel every task; those that run save their state first."""
        self._stopped = True
        self._settled += [Ended(n, _as_stopped(job, self._workdir)) for n, job in self._new]
        self._new = []
        slurm_queue.cancel(list(self._tasks))

    def close(self) -> None:
        """Nothing is held. Tasks that are still there stay there."""

    # ---- submitting

    def _adopt(self) -> None:
        """A job whose task an earlier scheduler submitted is that task."""
        for number, job in list(self._new):
            for id, runs in self._others.items():
                if runs == _runs(job):
                    self._tasks[id] = _Started(number, job)
                    del self._others[id]
                    self._new.remove((number, job))
                    break

    def _submit(self) -> None:
        """Submit what may run: as one array for each number of nodes."""
        if self._stopped:
            return
        # A run that is in a task of an earlier scheduler waits for the end of that task.
        taken = set().union(*self._others.values())
        free = [(number, job) for number, job in self._new if taken.isdisjoint(_runs(job))]
        by_nodes: dict[int, list[tuple[int, Job]]] = {}
        for number, job in free:
            by_nodes.setdefault(nodes_of(job, self._options, self._cpu_devices), []).append(
                (number, job)
            )
        for nodes, group in by_nodes.items():
            while group and (count := min(self._room(), len(group), LARGEST)) > 0:
                self._submit_array(nodes, group[:count])
                group = group[count:]

    def _room(self) -> int:
        """How many tasks may be submitted now.

        The first array holds the rest of the sweep, and Slurm sees to the limit. What comes later
        (jobs tried again) must fit beside what that array may run at a time.
        """
        limit = self._options.array_parallelism
        if limit is None or not (self._tasks or self._others):
            return LARGEST
        arrays = Counter(id.partition("_")[0] for id in (*self._tasks, *self._others))
        return limit - sum(min(limit, count) for count in arrays.values())

    def _submit_array(self, nodes: int, group: Sequence[tuple[int, Job]]) -> None:
        from submitit import SlurmExecutor

        token = uuid.uuid4().hex[:12]
        line = {"token": token, "tasks": [sorted(_runs(job)) for _, job in group]}
        files.append(self._ledger, (json.dumps(line) + "\n").encode())
        tasks = [
            Task(job.to_dict(), self._workdir, str(self._folder), self._cpu_devices)
            for _, job in group
        ]
        with _outside_of_a_job():
            executor = SlurmExecutor(self._folder, max_num_timeout=10**6)
            executor.update_parameters(
                job_name=f"scaling-{token}",
                nodes=nodes,
                array_parallelism=self._options.array_parallelism or len(group),
                **parameters(self._options),
            )
            submitted = executor.submit_array(tasks)
        for job, (number, what) in zip(submitted, group, strict=True):
            self._tasks[job.job_id] = _Started(number, what)
            self._new.remove((number, what))
        array = submitted[0].job_id.partition("_")[0]
        many = f"{len(group)} task{'s' if len(group) > 1 else ''}"
        print(f"Slurm: {many} submitted as {array}; logs in {self._folder}", file=sys.stderr)

    # ---- looking

    def _look(self) -> list[Ended]:
        entries = slurm_queue.read()
        if entries is None:
            return []  # the controller is away for a moment; the tasks go on without it
        self._others = {id: runs for id, runs in self._others.items() if _is_there(id, entries)}
        ended, now = [], time.monotonic()
        for id, task in list(self._tasks.items()):
            if _is_there(id, entries):
                task.over = None
                continue
            # Not at the first look: a task that lost its node may be on its way back to the queue.
            first, task.over = task.over is None, task.over or now
            entry = entries.get(id)
            results = read_results(self._folder, id, task.job)
            silent = entry is None or entry.state == "COMPLETED"
            if results is None and (first or (silent and now - task.over < LATE)):
                continue
            del self._tasks[id]
            ended.append(self._ended(id, entry, task, results))
        return ended

    def _ended(
        self,
        id: str,
        entry: slurm_queue.Entry | None,
        task: _Started,
        results: tuple[Result, ...] | None,
    ) -> Ended:
        log = str(self._folder / f"{id}_0_log.out")
        if results is None and self._stopped:
            results = _as_stopped(task.job, self._workdir)
        if results is not None:
            return Ended(task.number, results, log=log)
        death = slurm_queue.death(id, entry)
        return Ended(task.number, None, death.text, death.exit_code, death.failure, log)


def _runs(job: Job) -> frozenset[str]:
    return frozenset(run_name(config) for config in job.configs)


def _is_there(id: str, entries: dict[str, slurm_queue.Entry]) -> bool:
    return id in entries and not entries[id].is_over


def _still_there(
    ledger: pathlib.Path, entries: dict[str, slurm_queue.Entry]
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
    return tuple(
        Result(config, {"running": "stopped"}.get(s["state"], s["state"]), s.get("reason"))
        if s
        else Result(config, "pending")
        for config, s in zip(job.configs, states, strict=True)
    )


# ---- options


def nodes_of(job: Job, options: SlurmOptions, cpu_devices: int | None = None) -> int:
    """Nodes of a job: as asked for, or enough for the sizes that its mesh names.

    A node has `gpus` devices, or, without GPUs, those of its processes.
    """
    if options.nodes is not None:
        return options.nodes
    sizes = to_dict(job.configs[0].mesh).values()
    devices = math.prod(size for size in sizes if size is not None)
    return -(-devices // (options.gpus or options.tasks_per_node * (cpu_devices or 1)))


def parameters(options: SlurmOptions) -> dict[str, Any]:
    """What submitit is told, apart from names and nodes."""
    extra = {}
    for text in options.extra:
        name, _, value = text.partition("=")
        extra[name] = value or True
    # A process that fails ends the others of its run at once; and srun, since 22.05, no longer
    # takes the number of cores from sbatch.
    srun = ["--kill-on-bad-exit=1"]
    if options.cpus is not None:
        srun.append(f"--cpus-per-task={options.cpus}")
    path = f"export PYTHONPATH={REPOSITORY}${{PYTHONPATH:+:$PYTHONPATH}}"
    given = {
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "cpus_per_task": options.cpus,
        "gpus_per_node": options.gpus,
        "mem": None if options.mem is None else f"{round(options.mem * 1024)}MB",
        "constraint": options.constraint,
        "exclude": options.exclude,
    }
    return {name: value for name, value in given.items() if value is not None} | {
        "time": options.time,
        "signal_delay_s": options.save,
        "ntasks_per_node": options.tasks_per_node,
        "setup": [path, *options.setup],
        "srun_args": srun,
        "stderr_to_stdout": True,
        "additional_parameters": {"requeue": True, **extra},
    }


def _check(workdir: epath.PathLike, options: SlurmOptions) -> None:
    missing = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
    if missing:
        raise UserError(
            f"--executor=slurm: {', '.join(missing)} not found; run the sweep on a machine that "
            "submits to Slurm, or take another executor"
        )
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise UserError(
            "--executor=slurm needs submitit; install it with pip install 'scaling[slurm]'"
        ) from error
    if options.folder is None and not files.is_local(workdir):
        raise UserError(
            f"--workdir={os.fspath(workdir)} is no folder that Slurm can write its logs to; give "
            "one that all nodes share, --slurm_folder"
        )
    for name in ("time", "tasks_per_node", "nodes", "cpus", "gpus", "array_parallelism"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--slurm_{name}={value} must be at least 1")


@contextlib.contextmanager
def _outside_of_a_job() -> Iterator[None]:
    """Without what Slurm says of the job that the scheduler itself may run in: sbatch would take it
    for wishes.
    """
    inside = {
        name: value
        for name, value in os.environ.items()
        if "SLURM_JOB_ID" in os.environ
        and name.startswith(("SLURM_", "SLURMD_", "SRUN_"))
        and name != "SLURM_CONF"
    }
    for name in inside:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(inside)
