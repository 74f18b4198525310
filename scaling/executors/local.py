"""The local backends: this machine, one job after another in this process, or N worker processes.

Small models gain little from a second core, so N workers of one core each are the fast way to train
many of them. A worker that dies takes one job with it, and another takes its place; a worker whose
parent dies saves its job and ends. `run_local` is the executor that `sweep` calls.
"""

import contextlib
import json
import os
import pathlib
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from scaling import files
from scaling.errors import RESUME_ME
from scaling.executors import machine, oom, scheduler
from scaling.executors.jobs import Ended, Job, run_job
from scaling.executors.result import Result, from_rows
from scaling.place import python_path
from scaling.records import LOG

_STARTS = 10  # worker processes in a row that may be killed before they are ready for a job


def run_local(
    jobs: Sequence[Job],
    workdir: epath.PathLike,
    *,
    workers: int | None = None,
    stop: threading.Event | None = None,
    devices: Sequence[Any] | None = None,
    **how: Any,
) -> list[Result]:
    """Train the runs of all jobs; their results in the order of the jobs.

    Args:
      jobs: each run in one of them.
      workdir: where the run directories are.
      workers: processes; None: one a core on a CPU machine; 1: in this process, in order. On GPUs
        each has as many for itself.
      stop: when set, running runs are saved and the rest stays pending.
      devices: of the mesh when the runs are trained in this process; None: all.
      how: as for `scheduler.run_jobs`.

    Raises UserError for more workers than this machine has devices for.
    """
    stop = stop or threading.Event()
    asked = machine.processes(workers)
    workers = min(asked, max(1, len(jobs)))
    backend: InProcess | Workers
    if workers <= 1:
        backend = InProcess(workdir, stop, devices)
    else:
        backend = Workers(workdir, workers, machine.gpus(asked))
    return scheduler.run_jobs(jobs, workdir, backend, stop=stop, **how)


class InProcess:
    """Jobs in this process, each while `wait` is called."""

    slots: int | None = 1

    def devices(self, job: Job) -> int:
        """All of this process."""
        import jax

        return len(self._devices or jax.devices())

    def __init__(
        self,
        workdir: epath.PathLike,
        stop: threading.Event,
        devices: Sequence[Any] | None = None,
    ):
        self._workdir, self._stop, self._devices = workdir, stop, devices
        self._job: tuple[int, Job] | None = None

    def start(self, number: int, job: Job) -> None:
        """Keep the job for `wait`."""
        self._job = number, job

    def wait(self, seconds: float) -> list[Ended]:
        """Train the job, however long it takes."""
        if self._job is None:
            return []
        (number, job), self._job = self._job, None
        return [Ended(number, run_job(job, self._workdir, devices=self._devices, stop=self._stop))]

    def stop(self) -> None:
        """The event that it was made with has said so."""

    def close(self) -> None:
        """Nothing is held."""


class Workers:
    """N worker processes of this machine, each with its share of the cores, and of the GPUs."""

    def __init__(
        self, workdir: epath.PathLike, workers: int, gpus: Sequence[Sequence[str]] | None = None
    ):
        self.slots: int | None = workers
        self._gpus = gpus
        self._workdir = epath.Path(workdir)
        self._logs = files.local_folder(workdir, "logs")
        cores = sorted(os.sched_getaffinity(0))
        shares = [cores[w::workers] or [cores[w % len(cores)]] for w in range(workers)]
        self._free = deque(range(workers))
        self._cores = dict(enumerate(shares))
        self._workers: dict[int, _Worker] = {}  # by place; kept for the next job
        self._told = False
        self._kills = oom.kills()  # those that are accounted for

    def devices(self, job: Job) -> int:
        """Of each worker."""
        return len(self._gpus[0]) if self._gpus else 1

    def start(self, number: int, job: Job) -> None:
        """Give the job to a worker, to a new one if need be."""
        # A worker that is there already has jax in memory.
        place = next((p for p in self._free if p in self._workers), self._free[0])
        self._free.remove(place)
        if place not in self._workers:
            self._workers[place] = self._new(place)
        self._workers[place].give(number, job, self._workdir)

    def _new(self, place: int) -> "_Worker":
        gpus = {machine.VISIBLE: ",".join(self._gpus[place])} if self._gpus else {}
        return _Worker(self._cores[place], self._logs / f"worker-{place}.log", gpus)

    def wait(self, seconds: float) -> list[Ended]:
        """Jobs whose workers have replied or died."""
        until = time.monotonic() + seconds
        out: list[Ended] = []
        while not out:
            with selectors.DefaultSelector() as selector:
                for place, worker in self._workers.items():
                    selector.register(worker.replies, selectors.EVENT_READ, place)
                ready = selector.select(max(0.0, until - time.monotonic()))
            for key, _ in ready:
                out += self._hear(key.data)
            if time.monotonic() >= until:
                break
        return out

    def _hear(self, place: int) -> list[Ended]:
        worker = self._workers[place]
        lines = worker.read()
        if lines is None:
            return self._bury(place)
        ended = []
        for line in lines:
            reply = json.loads(line)
            if "ready" in reply:
                worker.ready()
                continue
            if "begun" in reply:
                worker.began = True
                continue
            number, job = worker.finish()
            results = from_rows(job.configs, reply["results"])
            ended.append(Ended(number, results, log=str(worker.log)))
            self._free.append(place)
            if reply["last"]:
                self._workers.pop(place).close()
        return ended

    def _bury(self, place: int) -> list[Ended]:
        """The worker at a place has died; so has its job, if it had begun."""
        worker = self._workers.pop(place)
        code = worker.close()
        if worker.job is None:
            return []
        number, job = worker.job
        if not worker.began and self._told:
            self._free.append(place)
            return [Ended(number, tuple(Result(c, "pending") for c in job.configs))]
        told_to = code < 0 or code in (0, RESUME_ME)
        if not worker.began and told_to and worker.starts < _STARTS:
            # Ended by somebody before it had seen the job: that says nothing of the job.
            self._workers[place] = self._new(place)
            self._workers[place].starts = worker.starts + 1
            self._workers[place].give(number, job, self._workdir)
            return []
        self._free.append(place)
        by_kernel = code == -signal.SIGKILL and oom.kills() > self._kills
        self._kills += by_kernel
        # Who is killed has no last words: what stands in the log was survived.
        said = code != -signal.SIGKILL and worker.said_out_of_memory()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        why = ": the kernel was out of memory" if by_kernel else ""
        return [
            Ended(
                number,
                None,
                death=f"the worker process ended with {how}{why}",
                exit_code=code,
                failure="memory" if by_kernel or said else "lost",
                log=str(worker.log),
            )
        ]

    def stop(self) -> None:
        """SIGTERM to every worker."""
        self._told = True
        for worker in self._workers.values():
            worker.terminate()

    def close(self) -> None:
        """Let every worker end, and wait for it."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()


class _Worker:
    """The parent's end of one `scaling.executors.worker` process."""

    def __init__(self, cores: list[int], log: pathlib.Path, environment: Mapping[str, str]):
        self.log = log
        self.job: tuple[int, Job] | None = None
        self.began = False  # the process has seen the job
        self.starts = 0  # processes before this one that did not live to begin
        self._ready, self._rest = False, b""
        own = {"SCALING_WORKER_CORES": ",".join(map(str, cores)), LOG: str(log)}
        with files.named_errors(log), open(log, "ab") as file:
            self._log_start = file.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "scaling.executors.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env={**os.environ, "PYTHONPATH": python_path(), **environment, **own},
                start_new_session=True,  # Ctrl-C reaches the parent alone, which then stops it
            )
        assert self._process.stdout is not None
        self.replies = self._process.stdout

    def give(self, number: int, job: Job, workdir: epath.Path) -> None:
        """The next job; sent once the process is ready for it."""
        self.job, self._workdir, self.began = (number, job), workdir, False
        if self._ready:
            self._send()

    def ready(self) -> None:
        """The process can take a job."""
        self._ready, self.starts = True, 0
        if self.job is not None:
            self._send()

    def _send(self) -> None:
        assert self._process.stdin is not None
        assert self.job is not None
        message = {"job": self.job[1].to_dict(), "workdir": os.fspath(self._workdir)}
        with contextlib.suppress(BrokenPipeError):  # its death is heard on the other pipe
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def finish(self) -> tuple[int, Job]:
        """The job that the process has replied to."""
        assert self.job is not None
        job, self.job = self.job, None
        return job

    def read(self) -> list[bytes] | None:
        """Whole lines that have come; None at the end of the process."""
        new = os.read(self.replies.fileno(), 1 << 16)
        if not new:
            return None
        *lines, self._rest = (self._rest + new).split(b"\n")
        return lines

    def said_out_of_memory(self) -> bool:
        """Whether the last words of the process in its log are of memory."""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(self._log_start, os.path.getsize(self.log) - 4096))
                return oom.says_so(file.read().decode(errors="replace"))
        except OSError:
            return False

    def terminate(self) -> None:
        self._process.terminate()

    def close(self) -> int:
        """Let the process end, wait for it, and give its exit code."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        return self._process.wait()
