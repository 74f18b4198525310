"""The local executor: this machine, one run after another or N worker processes.

Small models gain little from a second core, so N workers of one core each are the fast way to train
many of them. A worker that dies takes one run with it: the run is marked failed, the worker is
replaced, the others go on. Runs that are done are skipped, half-done ones go on from their
checkpoint: the run directories say which.
"""

import contextlib
import json
import os
import pathlib
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from etils import epath

from scaling import ladder
from scaling.config import RunConfig, to_dict
from scaling.errors import UserError
from scaling.executors.result import Result
from scaling.records import RunDirectory

Report = Callable[[Result], None]


def run_local(
    configs: Sequence[RunConfig],
    workdir: epath.PathLike,
    *,
    workers: int | None = None,
    stop: threading.Event | None = None,
    on_result: Report = lambda result: None,
    devices: Sequence[Any] | None = None,
) -> list[Result]:
    """Train resolved runs; results in the order of `configs`.

    Args:
      configs: resolved, each once.
      workdir: where the run directories are.
      workers: processes; None: one a core on a CPU machine; 1: in this process, in order.
      stop: when set, running runs are saved and the rest stays pending.
      on_result: called for each run as it ends.
      devices: of the mesh when the runs are trained in this process; None: all.
    """
    stop = stop or threading.Event()
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if not _accelerator() else 1
    workers = min(workers, len(configs))
    if workers <= 1:
        results = [_in_process(c, workdir, stop, on_result, devices) for c in configs]
    else:
        results = _Pool(configs, workdir, workers, stop, on_result).run()
    return results


def _accelerator() -> bool:
    import jax

    return jax.default_backend() != "cpu"


def _in_process(
    config: RunConfig,
    workdir: epath.PathLike,
    stop: threading.Event,
    on_result: Report,
    devices: Sequence[Any] | None,
) -> Result:
    from scaling.train.loop import train

    if stop.is_set():
        return Result(config, "pending")
    try:
        outcome = train(config, workdir, devices=devices, stop=stop)
        result = Result(config, outcome.status, outcome.reason)
    except UserError as error:
        result = Result(config, "failed", str(error))
    except Exception as error:
        result = Result(config, "failed", f"{type(error).__name__}: {error}")
    on_result(result)
    return result


class _Pool:
    """N worker processes, each fed by one thread of this process from one queue."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        workdir: epath.PathLike,
        workers: int,
        stop: threading.Event,
        on_result: Report,
    ):
        self._configs, self._workdir, self._stop = configs, epath.Path(workdir), stop
        self._on_result, self._reporting = on_result, threading.Lock()
        self._results: dict[int, Result] = {}
        # Longest first: the last run to start is then a short one, and no core waits long for it.
        by_cost = sorted(range(len(configs)), key=lambda i: -ladder.cost(configs[i]).flops)
        self._jobs: queue.SimpleQueue[int] = queue.SimpleQueue()
        for i in by_cost:
            self._jobs.put(i)
        cores = sorted(os.sched_getaffinity(0))
        self._cores = [cores[w::workers] or cores for w in range(workers)]

    def run(self) -> list[Result]:
        threads = [threading.Thread(target=self._serve, args=(c,)) for c in self._cores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [
            self._results.get(i, Result(config, "pending"))
            for i, config in enumerate(self._configs)
        ]

    def _serve(self, cores: list[int]) -> None:
        worker = None
        while not self._stop.is_set():
            try:
                i = self._jobs.get_nowait()
            except queue.Empty:
                break
            worker = worker or _Worker(cores, self._workdir, self._stop)
            result = worker.train(self._configs[i])
            if result is None:
                reason = worker.death()
                worker = None
                run = RunDirectory.open(self._configs[i], self._workdir)
                run.write_status("failed", reason=reason)
                result = Result(self._configs[i], "failed", reason)
            with self._reporting:
                self._results[i] = result
                self._on_result(result)
        if worker is not None:
            worker.close()


class _Worker:
    """The parent's end of one `scaling.executors.worker` process."""

    def __init__(self, cores: list[int], workdir: epath.Path, stop: threading.Event):
        self._stop = stop
        logs = pathlib.Path(workdir) / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self.log = logs / f"worker-{'-'.join(map(str, cores))}.log"
        environment = os.environ | {"SCALING_WORKER_CORES": ",".join(map(str, cores))}
        with open(self.log, "a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "scaling.executors.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the parent alone, which then stops it
            )
        threading.Thread(target=self._forward_stop, daemon=True).start()

    def train(self, config: RunConfig) -> Result | None:
        """The run's result, or None when the process died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job: dict[str, Any] = {"config": to_dict(config), "workdir": str(self.log.parent.parent)}
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            return None
        if not line:
            return None
        reply = json.loads(line)
        return Result(config, reply["status"], reply["reason"])

    def _forward_stop(self) -> None:
        while self._process.poll() is None:
            if self._stop.wait(0.2):
                self._process.terminate()
                return

    def death(self) -> str:
        """Why the process ended, for a person."""
        code = self.close()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        hint = " (out of memory?)" if code == -9 else ""
        return f"the worker process ended with {how}{hint}; its log is {self.log}"

    def close(self) -> int:
        """Let the process end, wait for it, and give its exit code."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        return self._process.wait()
