"""Jobs on plain TPU VMs: a queued resource a job, made, used over ssh by all hosts, and deleted.

`create`, `setup`, `work`, `delete` and so on make the command lines of gcloud; `GcloudBackend` runs
them. Their flags are read by the real gcloud in tests/executors/test_gcloud.py. A queued resource
costs money from the moment that it is active until it is deleted: every way out of a job deletes.
"""

import pathlib
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from etils import epath

from scaling.errors import ConfigError
from scaling.executors.jobs import Ended, Job
from scaling.executors.options import option
from scaling.executors.pods import desk, shell
from scaling.executors.pods.watching import Entry, WatchingBackend
from scaling.slices import Slice, find

_LOCK, _PID = "/tmp/scaling.lock", "/tmp/scaling.pid"


@dataclass(frozen=True)
class GcloudOptions:
    """What is asked of gcloud for every job; None: gcloud's own default."""

    tpu: str | None = option(None, "the slice of a job, e.g. v5litepod-16 or v5p:4x4x8")
    slices: int = option(1, "of them a job has, joined by the network")
    at_once: int = option(1, "jobs at a time: quota and cost are so many times one job's")
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
    poll: float = option(20.0, "seconds between looks at the queued resources")

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


# ---- the backend


class GcloudBackend(WatchingBackend):
    """`Backend` for TPU VMs. Raises UserError where gcloud is not installed."""

    def __init__(self, workdir: epath.PathLike, options: GcloudOptions):
        shell.need("gcloud", "gcloud")
        super().__init__(workdir, options.poll)
        self._options = options
        self.slots = options.at_once
        self._logs = pathlib.Path(options.logs)
        self._logs.mkdir(parents=True, exist_ok=True)
        self._hosts: dict[int, list[subprocess.Popen[bytes]]] = {}  # one for each slice

    def states(self) -> Mapping[str, str] | None:
        """ACCEPTED, PROVISIONING, ACTIVE, ..., by queued resource."""
        found = shell.read(look(self._options))
        if found is None:
            return None
        return {r["name"].rpartition("/")[2]: r.get("state", {}).get("state", "?") for r in found}

    def is_over(self, state: str) -> bool:
        """Whether it never becomes active (again)."""
        return state in ("FAILED", "SUSPENDING", "SUSPENDED", "DELETING")

    def ask(self, job: Job) -> list[str]:
        """Queue for its TPUs."""
        return create(job, self._options)

    def remove(self, job: Job) -> list[str]:
        """Give its TPUs back."""
        return delete(job, self._options)

    def look(self, number: int, entry: Entry, state: str | None) -> Ended | None:
        """Begin on TPUs that have become active, and see how that ended."""
        hosts, log = self._hosts.get(number), self._logs / f"{entry.name}.log"
        if hosts is not None:
            codes = [host.poll() for host in hosts]
            if None in codes:
                return None
            death = f"its hosts ended with exit codes {codes}, the queued resource is {state}"
        elif self._stopped or state is None or self.is_over(state):
            death = f"its queued resource {entry.name} is {state or 'gone'}"
        else:
            if state == "ACTIVE":
                self._hosts[number] = self._begin(entry.job, log)
            return None
        self._hosts.pop(number, None)
        self._give_back(entry)
        return self.ended(number, entry, death, str(log))

    def _begin(self, job: Job, log: pathlib.Path) -> list[subprocess.Popen[bytes]]:
        line = work(job, self._workdir, self._options)
        with open(log, "ab") as out:
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

    def _give_back(self, entry: Entry) -> None:
        done = shell.run(self.remove(entry.job))
        if done.returncode:
            print(
                f"{entry.name} IS NOT DELETED AND MAY COST MONEY ({shell.complaint(done)})",
                file=sys.stderr,
            )

    def stop(self) -> None:
        """Tell every host to save and end; requests that still wait are withdrawn."""
        self._stopped, self._looked = True, 0.0
        for number in self._hosts:
            for node in nodes(self._entries[number].job, self._options):
                shell.run(ssh(node, STOP, self._options))

    def close(self) -> None:
        """Give back what a scheduler that ends early still has."""
        for entry in self._entries.values():
            if entry.asked:
                self._give_back(entry)
        self._entries.clear()
