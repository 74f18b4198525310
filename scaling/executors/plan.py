"""From a list of runs to jobs: which share a trunk, which wait for which, which are one program.

Looks at the run directories: a run that has a state of its own branches off nothing. Called by
`launch.py sweep`, for every executor.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from etils import epath

from scaling.config import RunConfig, fingerprint, run_name
from scaling.costs import sizes
from scaling.errors import UserError
from scaling.executors import branching, packing
from scaling.executors import jobs as jobs_lib
from scaling.executors.branching import Trunk
from scaling.executors.jobs import Job
from scaling.records import RunDirectory


@dataclass(frozen=True)
class Plan:
    """The jobs of a sweep, and what they save."""

    jobs: tuple[Job, ...]
    flops_saved: float = 0.0  # of training, by shared trunks
    flops: float = 0.0  # of all runs, each by itself

    def text(self) -> str:
        """For the dry run; empty where every run is a job of its own."""
        return "\n".join(filter(None, (self._of_branches(), packing.text(self.jobs))))

    def _of_branches(self) -> str:
        branches = [branch for job in self.jobs for _, branch in job.branches]
        if not branches:
            return ""
        count, trunks = (
            len(branches),
            len({trunk for job in self.jobs for trunk, _ in job.branches}),
        )
        return (
            f"{count} run{'s branch' if count > 1 else ' branches'} off {trunks} "
            f"trunk{'s' if trunks > 1 else ''}: {self.flops_saved:.2e} FLOPs "
            f"({self.flops_saved / self.flops:.0%}) are trained once instead of again"
        )


def plan(
    configs: Sequence[RunConfig],
    workdir: epath.PathLike,
    *,
    branch: bool = True,
    pack: str = "off",
    devices: Sequence[Any] = (),
    processes: int = 1,
) -> Plan:
    """The jobs of resolved runs, as their directories stand.

    Args:
      branch: whether runs that share their first steps train them once.
      pack: whether runs that share a program are trained as one: "off", "auto", or how many.
      devices: of one job, for packing.
      processes: that train at the same time, likewise.
    """
    found = branching.trunks(configs) if branch else [Trunk(config) for config in configs]
    apart = [piece for trunk in found for piece in _as_they_stand(trunk, workdir)]
    jobs = _after_parents(branching.jobs(apart), configs)
    if (most := most_members(pack)) != 1:
        todo, ended = _apart(jobs, workdir)
        jobs = packing.pack(todo, most, devices, processes) + ended
    return Plan(
        tuple(jobs),
        sum(trunk.flops_saved for trunk in apart),
        sum(sizes.cost(config).flops for config in configs),
    )


def _after_parents(jobs: Sequence[Job], configs: Sequence[RunConfig]) -> list[Job]:
    """The jobs with the names of those of the sweep's runs that theirs begin with."""
    if all(config.begins.run is None for config in configs):
        return list(jobs)
    names = {fingerprint(config): run_name(config) for config in configs}

    def parents(job: Job) -> tuple[str, ...]:
        begun = [config.begins.run for config in job.configs]
        return tuple(dict.fromkeys(names[run] for run in begun if run in names))

    return [replace(job, parents=parents(job)) for job in jobs]


def most_members(pack: str) -> int | None:
    """Most members of a group; None: as many as pay."""
    if pack in ("auto", "off"):
        return None if pack == "auto" else 1
    if not pack.isdigit() or int(pack) < 1:
        raise UserError(f"--pack={pack} must be auto, off, or how many runs a program may train")
    return int(pack)


def _apart(jobs: Sequence[Job], workdir: epath.PathLike) -> tuple[list[Job], list[Job]]:
    """The jobs that are still to do, and those that have ended."""
    todo: list[Job] = []
    ended: list[Job] = []
    for job in jobs:
        (todo if jobs_lib.over(job, workdir) is None else ended).append(job)
    return todo, ended


def _as_they_stand(trunk: Trunk, workdir: epath.PathLike) -> list[Trunk]:
    """The trunk with the branches that it can still leave, and every other run by itself."""
    if not trunk.branches:
        return [trunk]
    status = RunDirectory.open(trunk.config, workdir).status()
    # Past its checkpoint by a little, perhaps: then a branch that could leave it trains alone.
    past = status.get("step", 0)
    can = [
        branch
        for branch in trunk.branches
        if branch.step > past and not RunDirectory.open(branch.config, workdir).status()
    ]
    own = [Trunk(branch.config) for branch in trunk.branches if branch not in can]
    return [replace(trunk, branches=tuple(can)), *own]
