"""What runs inside a Slurm task: one job, in one process of the task or in several that train it
together.

SIGTERM (cancelled, or made room for others) and SIGUSR2 (the time limit is near) save the state;
after SIGUSR2 the task puts itself back into the queue, to go on later. How the job ended is in a
file beside the task's log, where `backend.py`, which submits a `Task`, finds it at any later time.
"""

import os
import pathlib
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from scaling.config import RunConfig
from scaling.executors import result as result_lib
from scaling.executors.jobs import Job
from scaling.executors.result import Result
from scaling.executors.slurm import queue
from scaling.records import LOG, RunDirectory

# Seconds to wait for the other processes of the run: Slurm starts them together.
JOINING = 300


def results_file(folder: pathlib.Path, id: str, process: int) -> pathlib.Path:
    """Where a process of a task says how its job ended."""
    return folder / f"{id}_{process}_results.json"


def results_files(folder: pathlib.Path, id: str) -> list[pathlib.Path]:
    """Those that the processes of a task have left."""
    return sorted(folder.glob(f"{id}_*_results.json"))


@dataclass
class Task:
    """A job on its way to Slurm: plain values, so that pickling it asks for nothing."""

    job: dict[str, Any]
    workdir: str
    folder: str  # of submitit's files
    cpu_devices: int | None = None

    def checkpoint(self) -> Any:
        """For submitit, when SIGUSR2 comes while this process still imports: begin again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def __call__(self) -> None:
        """Train, and write how it ended."""
        stop, seen = threading.Event(), set()

        def handle(number: int, _: object) -> None:
            seen.add(number)
            stop.set()

        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, handle)

        import jax
        from submitit import JobEnvironment

        from scaling.config import DistributedConfig
        from scaling.devices import distributed, runtime
        from scaling.executors.jobs import run_job

        here = JobEnvironment()
        first = here.global_rank == 0
        path = results_file(pathlib.Path(self.folder), here.job_id, here.global_rank)
        path.unlink(missing_ok=True)  # of the start before this one
        if first:
            os.environ[LOG] = str(here.paths.stdout)
        job = Job.from_dict(self.job)
        runtime.configure(self.cpu_devices)
        with distributed.session(DistributedConfig(timeout=JOINING)):
            before = _saved(job.configs, self.workdir)
            results = run_job(job, self.workdir, stop=stop, quiet=not first)
            several = jax.process_count() > 1
        stopped = any(r.status in ("stopped", "pending") for r in results)
        again = stopped and signal.SIGUSR2 in seen
        if again and _saved(job.configs, self.workdir) <= before:
            again, results = False, tuple(_no_step(r) for r in results)
        result_lib.write(path, results)
        if any(r.status == "failed" for r in results) and several:
            # The others wait for this process: to end in good order would be to wait for them.
            sys.stdout.flush()
            os._exit(1)
        if again and first:
            queue.requeue(here.job_id)  # if it cannot be, the scheduler starts the job again


def _no_step(result: Result) -> Result:
    """A time limit so short that nothing was learned must not be met for ever."""
    if result.status not in ("stopped", "pending"):
        return result
    reason = "the time limit came before the first new step; give a longer --slurm_time"
    return replace(result, status="failed", reason=reason, failure="lost")


def _saved(configs: Sequence[RunConfig], workdir: str) -> int:
    """Steps on disk, over all runs of the job."""
    total = 0
    for config in configs:
        checkpoints = RunDirectory.open(config, workdir).path / "checkpoints"
        names = [p.name for p in checkpoints.iterdir()] if checkpoints.exists() else []
        total += max((int(name) for name in names if name.isdigit()), default=0)
    return total
