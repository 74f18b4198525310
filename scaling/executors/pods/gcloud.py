"""Jobs on plain TPU VMs: a queued resource a job, made, used over ssh by all hosts, and deleted.

`create`, `setup`, `work`, `delete` and so on make the command lines of gcloud; `GcloudBackend` runs
them. Their flags are read by the real gcloud in tests/executors/test_gcloud.py. A queued resource
costs money from the moment that it is active until it is deleted: every way out of a job deletes.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Literal

from etils import epath

from scaling.devices.slices import Slice, find
from scaling.errors import ConfigError
from scaling.executors.jobs import Ended, Job
from scaling.executors.options import option
from scaling.executors.pods import desk, shell
from scaling.executors.pods.watching import Entry, WatchingBackend

_LOCK, _PID = "/tmp/scaling.lock", "/tmp/scaling.pid"


@dataclass(frozen=True)
class GcloudOptions:
    """What is asked of gcloud for every job; None: gcloud's own default."""

    tpu: str | None = option(None, "the slice of a job, e.g. v5litepod-16 or v5p:4x4x8")
    slices: int = option(1, "of them a job has, joined by the network", 1)
    at_once: int = option(1, "jobs at a time: quota and cost are so many times one job's", 1)
    project: str | None = option(None, "Google Cloud project")
    zone: str | None = option(None, "e.g. us-west4-a")
    runtime: str | None = option(None, "software of the VMs; default: the chip's usual one")
    spot: bool = option(False, "spot capacity: cheaper, may be taken away")
    reserved: bool = option(False, "capacity of a reservation")
    patience: str | None = option(None, "give a request up when it was not met after, e.g. 6h")
    service_account: str | None = option(None, "that may read and write the workdir's bucket")
    network: str | None = option(None, "VPC network of the VMs")
    internal_ips: bool = option(False, "no external addresses; ssh from inside the network")
    setup: str | None = option(None, "shell line for every host of a new VM, such as a git clone")
    folder: str = option("scaling", "of the code on the hosts, where launch.py is")
    python: str = option("python3", "on the hosts, seen from that folder")
    env: tuple[str, ...] = option((), "NAME=value for the runs; may be repeated")
    logs: str = option("logs", "local folder for what the hosts print")
    poll: float = option(20.0, "seconds between looks at the queued resources", 0.1)

    def __post_init__(self) -> None:
        """Raises ConfigError for numbers that make no sense."""
        for name in ("slices", "at_once"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--gcloud_{name}={getattr(self, name)} must be at least 1")

    @property
    def slice(self) -> Slice:
        """Raises ConfigError when there is no such slice."""
        if self.tpu is None:
            raise ConfigError("give --gcloud_tpu, e.g. --gcloud_tpu=v5litepod-16")
        return find(self.tpu, "--gcloud_tpu")


# ---- command lines

_TPUS = ("compute", "tpus")


def create(job: Job, options: GcloudOptions) -> list[str]:
    """The command that asks for the TPUs of a job."""
    found, name = options.slice, desk.name_of(job)
    if found.is_listed:
        gcloud, which = ["gcloud"], [f"--accelerator-type={found.accelerator}"]
    else:  # several shapes have as many chips: only the alpha command takes a shape of any chip
        gcloud = ["gcloud", "alpha"]
        which = [f"--type={found.prefix}", f"--topology={found.topology}"]
    if options.slices == 1:
        nodes = [f"--node-id={name}"]
    else:
        nodes = [f"--node-count={options.slices}", f"--node-prefix={name}"]
    return [
        *(*gcloud, *_TPUS, "queued-resources", "create", name),
        *_where(options),
        *which,
        f"--runtime-version={options.runtime or found.runtime}",
        *nodes,
        *(["--spot"] if options.spot else []),
        *(["--reserved"] if options.reserved else []),
        *([f"--valid-until-duration={options.patience}"] if options.patience else []),
        *([f"--service-account={options.service_account}"] if options.service_account else []),
        *([f"--network={options.network}"] if options.network else []),
        *(["--internal-ips"] if options.internal_ips else []),
        "--async",
        "--quiet",
    ]


def look(options: GcloudOptions) -> list[str]:
    """The command that prints every queued resource as JSON."""
    return ["gcloud", *_TPUS, "queued-resources", "list", *_where(options), "--format=json"]


def delete(job: Job, options: GcloudOptions) -> list[str]:
    """The command that gives the TPUs back, or takes the request out of the queue."""
    name = desk.name_of(job)
    line = ("gcloud", *_TPUS, "queued-resources", "delete", name)
    return [*line, *_where(options), "--force", "--async", "--quiet"]


def nodes(job: Job, options: GcloudOptions) -> list[str]:
    """Names of the slices of a job, as gcloud makes them."""
    name = desk.name_of(job)
    return [name] if options.slices == 1 else [f"{name}-{i}" for i in range(options.slices)]


def ssh(node: str, command: str, options: GcloudOptions) -> list[str]:
    """The command that runs one on every host of a slice at once."""
    return [
        *("gcloud", *_TPUS, "tpu-vm", "ssh", node),
        *_where(options),
        "--worker=all",
        *(["--internal-ip"] if options.internal_ips else []),
        f"--command={command}",
        "--quiet",
    ]


def work(job: Job, workdir: epath.PathLike, options: GcloudOptions) -> str:
    """What every host runs. The lock: a scheduler that is started again waits for what still runs,
    and then finds it done.
    """
    begin = f"{options.setup} && " if options.setup else ""
    own = f"exec 9>{_LOCK} && flock 9 && echo $$ > {_PID}"
    return (
        f"{begin}cd {options.folder} && {own} && "
        f"{desk.command(job, workdir, options.python, options.env)}"
    )


STOP = f"kill -TERM $(cat {_PID})"  # what every host runs to save and end


def commands(job: Job, workdir: epath.PathLike, options: GcloudOptions) -> list[list[str]]:
    """What `GcloudBackend` runs for a job, in order; the second again and again."""
    on_hosts = work(job, workdir, options)
    return [
        create(job, options),
        look(options),
        *(ssh(node, on_hosts, options) for node in nodes(job, options)),
        delete(job, options),
    ]


def _where(options: GcloudOptions) -> list[str]:
    return [
        *([f"--project={options.project}"] if options.project else []),
        *([f"--zone={options.zone}"] if options.zone else []),
    ]


# ---- what is done next

# States in which it will not be active (again). Two of them pass into others: hosts that still live
# may be saving.
_PASSING = ("SUSPENDING", "DELETING")
_OVER = ("FAILED", "SUSPENDED", *_PASSING)


def next_step(
    state: str | None, hosts: Sequence[int | None] | None, stopped: bool
) -> Literal["wait", "begin", "tell", "end"]:
    """What is done about a job whose TPUs were asked for.

    Args:
      state: of its queued resource; None: it is gone.
      hosts: exit code of the ssh to each slice, None while it lives; None: nothing has begun.
      stopped: whether the sweep is to end.

    Returns "begin" work on the hosts, "tell" those that work to save and end, or "end": see what
    the hosts have left, end what still hangs here, and give the TPUs back.
    """
    if hosts is None:
        if stopped or state is None or state in _OVER:
            return "end"
        return "begin" if state == "ACTIVE" else "wait"
    if None not in hosts or state is None or (state in _OVER and state not in _PASSING):
        return "end"
    return "tell" if stopped else "wait"


# ---- the backend


class GcloudBackend(WatchingBackend):
    """`Backend` for TPU VMs. Raises UserError where gcloud is not installed."""

    def __init__(self, workdir: epath.PathLike, options: GcloudOptions):
        shell.need("gcloud", "gcloud")
        super().__init__(workdir, options.poll, options.slice.chips * options.slices)
        self._options = options
        self.slots = options.at_once
        self._logs = pathlib.Path(options.logs)
        self._logs.mkdir(parents=True, exist_ok=True)
        self._hosts: dict[int, list[subprocess.Popen[bytes]]] = {}  # one for each slice
        self._telling: dict[int, list[subprocess.Popen[bytes]]] = {}  # likewise
        self._kept: list[Entry] = []  # those that could not be given back

    def states(self) -> Mapping[str, str] | None:
        """ACCEPTED, PROVISIONING, ACTIVE, ..., by queued resource."""
        found = shell.read(look(self._options))
        if found is None:
            return None
        return {r["name"].rpartition("/")[2]: r.get("state", {}).get("state", "?") for r in found}

    def is_over(self, state: str) -> bool:
        """Whether it never becomes active (again)."""
        return state in _OVER

    def ask(self, job: Job) -> list[str]:
        """Queue for its TPUs."""
        return create(job, self._options)

    def remove(self, job: Job) -> list[str]:
        """Give its TPUs back."""
        return delete(job, self._options)

    def look(self, number: int, entry: Entry, state: str | None) -> Ended | None:
        """Begin on TPUs that have become active, and see how that ended."""
        hosts, log = self._hosts.get(number), self._logs / f"{entry.name}.log"
        codes = None if hosts is None else [host.poll() for host in hosts]
        step = next_step(state, codes, self._stopped)
        if step == "begin":
            with open(log, "ab") as out:
                line = work(entry.job, self._workdir, self._options)
                self._hosts[number] = self._on_hosts(entry.job, line, out)
        elif step == "tell":
            self._tell(number)
        if step != "end":
            return None
        death = f"its queued resource {entry.name} is {state or 'gone'}"
        if codes is not None and None not in codes:
            death = f"its hosts ended with exit codes {codes}, the queued resource is {state}"
        self._leave(number, entry)
        return self.ended(number, entry, death, str(log))

    def _on_hosts(self, job: Job, line: str, out: IO[bytes] | int) -> list[subprocess.Popen[bytes]]:
        """A command on every host; one process here for each slice."""
        return [
            subprocess.Popen(
                ssh(node, line, self._options),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the scheduler alone
            )
            for node in nodes(job, self._options)
        ]

    def _tell(self, number: int) -> None:
        """Hosts to save and end; again at each look: one that is still being set up cannot hear."""
        if all(ssh.poll() is not None for ssh in self._telling.get(number, ())):
            job = self._entries[number].job
            self._telling[number] = self._on_hosts(job, STOP, subprocess.DEVNULL)

    def _leave(self, number: int, entry: Entry) -> None:
        """Give the TPUs back, and end what still hangs on them."""
        self._give_back(entry)
        for process in (*self._hosts.pop(number, ()), *self._telling.pop(number, ())):
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # gcloud, and the ssh below it
                process.wait()

    def _give_back(self, entry: Entry) -> None:
        self._kept = [kept for kept in self._kept if kept.name != entry.name]
        done = shell.run(self.remove(entry.job))
        if done.returncode:
            self._kept.append(entry)
            print(
                f"{entry.name} IS NOT DELETED AND MAY COST MONEY ({shell.complaint(done)})",
                file=sys.stderr,
            )

    def stop(self) -> None:
        """Tell every host to save and end; requests that still wait are withdrawn."""
        self._stopped, self._looked = True, 0.0
        for number in self._hosts:
            self._tell(number)

    def close(self) -> None:
        """Give back what a scheduler that ends early still has, and what could not be before."""
        for entry in self._kept:
            self._give_back(entry)
        for number, entry in self._entries.items():
            if entry.asked:
                self._leave(number, entry)
        self._entries.clear()
