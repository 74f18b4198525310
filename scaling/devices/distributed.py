"""Many processes, one run: they find each other, agree, and none waits forever for one that is
gone.

`session` wraps a command: it joins the processes that the config or the environment names, before
the first device query, and if this one fails it ends it at once, so that the others notice.
Inside, `gather` and `together` let them speak, and `StopVote` carries a signal to all at one step.
Without other processes everything here does nothing. Called by `commands/train.py` and `train/`.
"""

import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scaling.config import DistributedConfig, RunConfig, flat
from scaling.config.provenance import provenance
from scaling.errors import BAD_INPUT, FAILED, RESUME_ME, ConfigError, UserError

# ---- joining


def environment() -> str | None:
    """What says that this process is one of several, or None; jax then finds out who they are."""
    env = os.environ
    if int(env.get("SLURM_NTASKS") or 1) > 1 and "SLURM_STEP_NODELIST" in env:
        return "Slurm"
    if int(env.get("OMPI_COMM_WORLD_SIZE") or 1) > 1:
        return "Open MPI"
    hosts = env.get("TPU_PROCESS_ADDRESSES") or env.get("TPU_WORKER_HOSTNAMES") or ""
    if "," in hosts or int(env.get("MEGASCALE_NUM_SLICES") or 1) > 1 or _on_tpu_vm():
        return "TPU"
    if "KUBERNETES_SERVICE_HOST" in env and "JOB_COMPLETION_INDEX" in env:
        return "Kubernetes"
    return None


def _on_tpu_vm() -> bool:
    """A machine with TPU chips may be one of a pod: its metadata, which jax asks, know."""
    chips = any(pathlib.Path(path).exists() for path in ("/dev/accel0", "/dev/vfio/0"))
    asks = "TPU_SKIP_MDS_QUERY" not in os.environ
    return chips and asks and importlib.util.find_spec("libtpu") is not None


def _check(config: DistributedConfig) -> None:
    """Raise ConfigError for a config that cannot be one process of several."""
    processes, process = config.processes, config.process
    if processes is not None and processes < 1:
        raise ConfigError(f"distributed.processes={processes} must be at least 1")
    if process is not None and processes is not None and not 0 <= process < processes:
        raise ConfigError(
            f"distributed.process={process} must lie between 0 and {processes - 1}, as "
            f"distributed.processes={processes}: each process has a number of its own"
        )
    given = {f: getattr(config, f) for f in ("coordinator", "processes", "process")}
    missing = [f"distributed.{name}" for name, value in given.items() if value is None]
    if missing and len(missing) < 3 and environment() is None:
        has = [f"distributed.{name}={value}" for name, value in given.items() if value is not None]
        raise ConfigError(
            f"{' and '.join(has)} without {' and '.join(missing)}: give all three, or none under "
            "Slurm or on a TPU pod, where they are found"
        )
    if config.coordinator is not None:
        host, _, port = config.coordinator.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(
                f"distributed.coordinator={config.coordinator} must be host:port of process 0, "
                "such as 10.0.0.1:1234"
            )


def _wanted(config: DistributedConfig) -> bool:
    if config.processes == 1:
        return False
    return config.coordinator is not None or environment() is not None


def initialize(config: DistributedConfig) -> bool:
    """Join the other processes, if there are any; True then. Before the first device query.

    Raises UserError for what cannot work. Ends the process, with exit code 2 and a message, when
    the others have not come after `config.timeout` seconds: the runtime below would abort.
    """
    _check(config)
    if not _wanted(config):
        return False
    if config.process == 0 and config.coordinator is not None:
        _check_free(config.coordinator)
    # A connection that takes too long makes the runtime abort: this thread says why, before it.
    alarm = threading.Timer(config.timeout, lambda: _leave(BAD_INPUT, _missing(config)))
    alarm.daemon = True
    alarm.start()
    try:
        jax.distributed.initialize(
            config.coordinator,
            config.processes,
            config.process,
            local_device_ids=[] if _all_devices() else None,
            initialization_timeout=config.timeout + 60,
            heartbeat_timeout_seconds=min(100, config.timeout),
        )
    except (RuntimeError, ValueError) as error:  # of jax's search for the others
        who = environment() or "the config"
        raise UserError(
            f"{who} says that this is one process of several, but they are not found: {error}. "
            "Give config.distributed.coordinator, processes and process"
        ) from error
    finally:
        alarm.cancel()
    return jax.process_count() > 1


def _all_devices() -> bool:
    """Whether this process has all devices of its machine: jax gives a task of Slurm only one."""
    tasks = os.environ.get("SLURM_STEP_TASKS_PER_NODE") or os.environ.get("SLURM_TASKS_PER_NODE")
    alone = tasks is not None and all(n.partition("(")[0] == "1" for n in tasks.split(","))
    bound = "," not in os.environ.get("CUDA_VISIBLE_DEVICES", ",")
    return alone or bound


def _check_free(coordinator: str) -> None:
    host, _, port = coordinator.rpartition(":")
    with socket.socket(socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", int(port)))
        except OSError as error:
            raise UserError(
                f"config.distributed.coordinator={coordinator}: port {port} of this machine "
                f"cannot be used ({error.strerror}); an earlier run may still have it, or this is "
                f"not the machine {host}. Take another port, the same on every process"
            ) from error


def _missing(config: DistributedConfig) -> str:
    """Who waited in vain for whom, and where to look."""
    if config.coordinator is None:
        return (
            f"waited {config.timeout} s (config.distributed.timeout) for the other processes that "
            f"{environment()} names. See whether each of them started, and whether process 0's "
            "host name can be resolved from the others; or give config.distributed.coordinator, "
            "processes and process"
        )
    me = f"process {config.process} of {config.processes} on {socket.gethostname()}"
    waited = f"{me} waited {config.timeout} s (config.distributed.timeout)"
    if config.process == 0:
        return (
            f"{waited} at {config.coordinator} for the others, and not all came. See in their logs "
            "which did not start; each needs the same coordinator and processes, a number of its "
            "own, and a way through to this port"
        )
    host, _, port = config.coordinator.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        return (
            f"{waited} for process 0 at {config.coordinator}, where nothing answers "
            f"({error.strerror or error}). See whether process 0 runs there and the port is open"
        )
    return (
        f"{waited}: process 0 answers at {config.coordinator}, but another process is missing. See "
        "in their logs which did not start; each needs the same config.distributed.processes and a "
        "number of its own"
    )


# ---- leaving


# In the messages of jax's runtime, which raises one type for everything.
_SIGNS = (
    *("gloo", "nccl", "connection closed", "connection reset", "unavailable:", "aborted:"),
    *("deadline_exceeded", "barrier", "heartbeat", "coordination service"),
)


def peer_lost(error: BaseException) -> bool:
    """Whether an exception says that another process, or the way to it, is gone."""
    if jax.process_count() == 1 or isinstance(error, UserError):
        return False
    return any(sign in str(error).lower() for sign in _SIGNS)


LOST = (
    "another process of this run ended, or the network between them failed; the same command, on "
    "all of them, goes on from the last checkpoint"
)


@contextlib.contextmanager
def session(config: DistributedConfig) -> Iterator[None]:
    """Inside it, this process is one of the run's. Alone, it does nothing.

    What is raised inside ends the process here and now, with the exit code that it would have had,
    or 75 when another process is gone: to leave in good order would be to wait for the others,
    which wait for this one.
    """
    if not initialize(config):
        yield
        return
    try:
        yield
    except UserError as error:
        code, message = BAD_INPUT, str(error)
    except KeyboardInterrupt:
        code, message = 128 + signal.SIGINT, "interrupted"
    except Exception as error:
        if peer_lost(error):
            code, message = RESUME_ME, f"{LOST} ({str(error).splitlines()[0]})"
        else:
            traceback.print_exc()
            code, message = FAILED, f"process {jax.process_index()} ends, and with it the run"
    else:
        return
    # Without process 0 the runtime aborts the others, which have something to say as well.
    _leave(code, message, linger=3.0 if jax.process_index() == 0 else 0.0)


def _leave(code: int, message: str, linger: float = 0.0) -> None:
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    time.sleep(linger)
    os._exit(code)


# ---- speaking


def gather(value: Any) -> list[Any]:
    """Each process's value (anything that is JSON), in their order; all call it together."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = np.ravel(multihost_utils.process_allgather(np.int32(text.size)))
    # Few sizes, few programs.
    padded = np.zeros(-(-int(sizes.max()) // 1024) * 1024, np.uint8)
    padded[: text.size] = text
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(row[:n].tobytes()) for row, n in zip(rows, sizes, strict=True)]


@contextlib.contextmanager
def together() -> Iterator[None]:
    """A UserError that one process meets inside is raised by all, after the last has come here."""
    mine: UserError | None = None
    try:
        yield
    except UserError as error:
        mine = error
    failed = [(i, text) for i, text in enumerate(gather(mine and str(mine))) if text is not None]
    if mine is not None:
        raise mine
    if failed:
        process, text = failed[0]
        raise UserError(f"process {process} says: {text}")


@contextlib.contextmanager
def one_first() -> Iterator[None]:
    """Process 0 does what is inside before the others do: they find what it has prepared."""
    first = jax.process_index() == 0
    if not first:
        gather(None)
    try:
        yield
    finally:
        if first:
            gather(None)


def check_same(config: RunConfig) -> None:
    """Raise UserError, naming what differs and where, unless every process has the same run.

    The resolved config, without addresses but with the hashes of the corpora; the versions of the
    packages; the commit of the code.
    """
    made = provenance()
    facts = {f"config.{name}": value for name, value in flat(config).items()}
    facts |= {f"{name} (version)": v for name, v in made["versions"].items()}
    facts["the code's commit"] = made["commit"]
    facts = json.loads(json.dumps(facts))  # as the others' will come
    hosts = gather({"host": socket.gethostname(), "facts": facts})
    here = hosts[0]["facts"]
    for number, other in enumerate(hosts):
        there = other["facts"]
        differ = [
            f"{name} is {there.get(name)!r}, not {here.get(name)!r}"
            for name in sorted(here.keys() | there.keys())
            if here.get(name) != there.get(name)
        ]
        if differ:
            raise UserError(
                f"on process {number} ({other['host']}) {'; '.join(differ[:5])} as on process 0 "
                f"({hosts[0]['host']}). Start the same command, with the same code, packages and "
                "data, on every host"
            )


def without_addresses(config: RunConfig) -> RunConfig:
    """The config as a run keeps it: the next start may be on other hosts."""
    return dataclasses.replace(config, distributed=DistributedConfig())


class StopVote:
    """Whether any process was told to stop, known to all after the same call of the loop.

    With one process the answer is that of its event. With several, each gives its vote beside a
    dispatched step, and the result is read one call later, when it is there: nobody waits for it.
    """

    def __init__(self, stop: threading.Event, mesh: Mesh):
        self._stop, self._mesh = stop, mesh
        self._alone = jax.process_count() == 1
        self._results: list[jax.Array] = []  # of the last two votes
        self._ballot = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._any = jax.jit(
            lambda votes: votes.max(), out_shardings=NamedSharding(mesh, PartitionSpec())
        )

    def cast(self) -> None:
        """Once a call."""
        if not self._alone:
            mine = np.full((1,), self._stop.is_set(), np.int32)
            votes = jax.make_array_from_callback((self._mesh.size,), self._ballot, lambda _: mine)
            self._results = [*self._results[-1:], self._any(votes)]

    def passed(self) -> bool:
        """Whether to stop after this call."""
        if self._alone:
            return self._stop.is_set()
        return len(self._results) == 2 and bool(jax.device_get(self._results[0]))
