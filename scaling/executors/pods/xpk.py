"""Jobs on TPUs of a GKE cluster: one xpk workload a job, one pod a host, Kueue does the queueing.

`create` and `delete` make the command lines of xpk; `XpkBackend` runs them and asks kubectl how the
workloads (JobSets) are. The command lines are read by the real xpk in `make test-xpk`. Exit code 75
(saved, go on) restarts a workload, up to `restarts` times, without the scheduler.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etils import epath

from scaling.devices.slices import Slice, all_slices, find
from scaling.errors import RESUME_ME, ConfigError, UserError
from scaling.executors.jobs import Ended, Job
from scaling.executors.options import option
from scaling.executors.pods import desk, shell
from scaling.executors.pods.watching import Entry, WatchingBackend

PRIORITIES = ("very-low", "low", "medium", "high", "very-high")


@dataclass(frozen=True)
class XpkOptions:
    """What is asked of xpk for every job; None: xpk's or gcloud's own default."""

    tpu: str | None = option(None, "the slice of a job, e.g. v5litepod-16 or v5p:4x4x8")
    slices: int = option(1, "of them a job has, joined by the network", 1)
    cluster: str | None = option(None, "name of the GKE cluster, made by xpk cluster create")
    project: str | None = option(None, "Google Cloud project")
    zone: str | None = option(None, "of the cluster, e.g. us-west4-a")
    image: str | None = option(None, "Docker image with this code and its packages")
    base_image: str | None = option(None, "or: an image to which xpk adds this folder's code")
    priority: str = option("medium", "very-low, low, medium, high or very-high")
    restarts: int = option(10, "of a workload that was pre-empted, before it has failed", 0)
    grace: int = option(120, "seconds between SIGTERM and SIGKILL, to save a checkpoint in", 0)
    spot: bool = option(False, "spot capacity, where the cluster provisions nodes by itself")
    reservation: str | None = option(None, "reservation, where it provisions by itself")
    env: tuple[str, ...] = option((), "NAME=value of the container; may be repeated")
    python: str = option("python", "in the container")
    poll: float = option(20.0, "seconds between looks at the workloads", 0.1)

    def __post_init__(self) -> None:
        """Raises ConfigError for values that xpk would refuse."""
        if self.priority not in PRIORITIES:
            raise ConfigError(f"--xpk_priority={self.priority} is none of {', '.join(PRIORITIES)}")
        if self.slices < 1:
            raise ConfigError(f"--xpk_slices={self.slices} must be at least 1")

    @property
    def slice(self) -> Slice:
        """Raises ConfigError when xpk does not know it."""
        if self.tpu is None:
            raise ConfigError("give --xpk_tpu, e.g. --xpk_tpu=v5litepod-16")
        found = find(self.tpu, "--xpk_tpu")
        if not found.on_gke:
            least = next(s for s in all_slices() if s.chip == found.chip and s.on_gke).accelerator
            raise ConfigError(
                f"--xpk_tpu={self.tpu}: xpk has no such slice; the smallest is {least}"
            )
        return found


def create(job: Job, workdir: epath.PathLike, options: XpkOptions) -> list[str]:
    """The command that makes the workload of a job.

    Raises ConfigError when something is missing.
    """
    if options.cluster is None:
        raise ConfigError("give --xpk_cluster, the name of a cluster that xpk has made")
    if (options.image is None) == (options.base_image is None):
        raise ConfigError("give exactly one of --xpk_image and --xpk_base_image")
    image = (
        [f"--docker-image={options.image}"]
        if options.image
        else [f"--base-docker-image={options.base_image}", "--script-dir=."]
    )
    return [
        *("xpk", "workload", "create", *_where(job, options)),
        f"--tpu-type={options.slice.xpk_type}",
        f"--num-slices={options.slices}",
        *image,
        f"--priority={options.priority}",
        f"--max-restarts={options.restarts}",
        f"--restart-on-exit-codes={RESUME_ME}",
        f"--termination-grace-period-seconds={options.grace}",
        *(["--spot"] if options.spot else []),
        *([f"--reservation={options.reservation}"] if options.reservation else []),
        *(f"--env={text}" for text in options.env),
        "--quiet",
        f"--command={desk.command(job, workdir, options.python)}",
    ]


def delete(job: Job, options: XpkOptions) -> list[str]:
    """The command that ends and removes it; its processes get SIGTERM."""
    return ["xpk", "workload", "delete", *_where(job, options), "--quiet"]


def _where(job: Job, options: XpkOptions) -> list[str]:
    return [f"--workload={desk.name_of(job)}", *_cluster(options)]


def _cluster(options: XpkOptions) -> list[str]:
    return [
        f"--cluster={options.cluster}",
        *([f"--project={options.project}"] if options.project else []),
        *([f"--zone={options.zone}"] if options.zone else []),
    ]


def look(context: str | None = None) -> list[str]:
    """The command that prints every workload (a JobSet) as JSON."""
    where = [f"--context={context}"] if context else []
    return [
        "kubectl",
        *where,
        *("get", "jobset", "--selector=xpk.google.com/workload", "-o", "json"),
    ]


def connect(options: XpkOptions) -> list[str]:
    """The command that gives kubectl the way to the cluster, and shows what is on it."""
    return ["xpk", "workload", "list", *_cluster(options)]


def commands(job: Job, workdir: epath.PathLike, options: XpkOptions) -> list[list[str]]:
    """What `XpkBackend` runs for a job, in order; the second again and again."""
    return [create(job, workdir, options), look(), delete(job, options)]


def logs(job: Job) -> str:
    """The command that shows what the hosts print."""
    name = desk.name_of(job)
    return f"kubectl logs --selector=jobset.sigs.k8s.io/jobset-name={name} --container=jax-tpu"


class XpkBackend(WatchingBackend):
    """`Backend` for GKE; Kueue lets in what the cluster has room for.

    Raises UserError where xpk or kubectl is missing, or the cluster is not reached.
    """

    def __init__(self, workdir: epath.PathLike, options: XpkOptions):
        for tool in ("xpk", "kubectl"):
            shell.need(tool, "xpk")
        super().__init__(workdir, options.poll, options.slice.chips * options.slices)
        self._options = options
        done = shell.run(connect(options))
        if done.returncode:
            raise UserError(f"cluster {options.cluster} is not reached: {shell.complaint(done)}")
        # Kept: someone may point kubectl elsewhere while the sweep goes on.
        self._context = shell.run(("kubectl", "config", "current-context")).stdout.strip() or None

    def states(self) -> Mapping[str, str] | None:
        """completed, failed or waiting or running, by workload."""
        found = shell.read(look(self._context))
        return None if found is None else {j["metadata"]["name"]: _state(j) for j in found["items"]}

    def is_over(self, state: str) -> bool:
        """Whether Kubernetes is through with it."""
        return state != "waiting or running"

    def ask(self, job: Job) -> list[str]:
        """Make its workload."""
        return create(job, self._workdir, self._options)

    def remove(self, job: Job) -> list[str]:
        """Delete its workload."""
        return delete(job, self._options)

    def look(self, number: int, entry: Entry, state: str | None) -> Ended | None:
        """How a workload ended."""
        if state is not None and not self.is_over(state):
            if self._stopped and not entry.removed:
                self._delete(entry)
            return None
        death = f"its workload {entry.name} is {state or 'gone'}"
        return self.ended(number, entry, death, logs(entry.job))

    def stop(self) -> None:
        """Delete the workloads: their processes save and end."""
        self._stopped, self._looked = True, 0.0
        for entry in self._entries.values():
            if entry.asked:
                self._delete(entry)

    def _delete(self, entry: Entry) -> None:
        """Where it fails, it is tried again at the next look."""
        done = shell.run(self.remove(entry.job))
        entry.removed = done.returncode == 0
        if not entry.removed:
            print(f"{entry.name} is not deleted yet ({shell.complaint(done)})", file=sys.stderr)

    def close(self) -> None:
        """Nothing is held. Workloads that are there stay there; the same sweep takes them over."""


def _state(jobset: dict[str, Any]) -> str:
    for condition in jobset.get("status", {}).get("conditions", []):
        if condition.get("status") == "True" and condition.get("type") in ("Completed", "Failed"):
            return condition["type"].lower()
    return "waiting or running"
