"""Which jobs of a sweep are trained as one: groups of runs that share a program.

Takes the jobs of a plan, what packing was asked for, and the devices that one job has; gives jobs
of several runs. A group is as large as the devices' memory allows and as pays (`docs/sweeps.md`),
and there are no fewer groups than processes to train them. Called by `executors/plan.py`; a group
is trained by `train/packed.py`.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

from scaling.check import memory
from scaling.config import RunConfig, run_name, to_dict
from scaling.costs import sizes
from scaling.costs.counted import convolves
from scaling.errors import ConfigError
from scaling.executors.admission import device_bytes
from scaling.executors.jobs import Job
from scaling.records import timing
from scaling.train import trials

# Members along one place of `trial` from which on a larger group gains little.
_ENOUGH = {"loop": 16, "vmap": 64}
_SHARE = 0.8  # of a device's memory that a group may fill, by an estimate


def pack(
    jobs: Sequence[Job],
    size: int | None,
    devices: Sequence[Any],
    processes: int = 1,
) -> list[Job]:
    """The jobs with alike ones made one; the largest first in each group, the rest as it was.

    Args:
      jobs: those of one run may be packed.
      size: most members of a group; None: from the memory and the kind of the devices.
      devices: of one job.
      processes: that train at the same time.
    """
    kinds: dict[str, list[Job]] = {}
    generation = _generations(jobs)
    for number, job in enumerate(jobs):
        kind = _kind(job, generation[number])
        kinds.setdefault(kind or f"alone {number}", []).append(job)
    packed = []
    for members in kinds.values():
        members = sorted(members, key=lambda job: -sizes.cost(job.configs[0]).flops)
        most = size or largest(members[0].configs[0], devices, processes)
        groups = max(math.ceil(len(members) / most), min(processes, len(members)))
        # Neighbours in cost: the members of a group then end at about the same time.
        edges = [len(members) * k // groups for k in range(groups + 1)]
        packed += [_joined(members[a:b]) for a, b in itertools.pairwise(edges)]
    return packed


def _generations(jobs: Sequence[Job]) -> list[int]:
    """Of each job, how many others follow each other before it that begin one with the other."""
    if not any(job.parents for job in jobs):
        return [0] * len(jobs)
    of_name = {run_name(config): job for job in jobs for config in job.configs}

    @functools.cache
    def of(parents: tuple[str, ...]) -> int:
        here = [of_name[name] for name in parents if name in of_name]
        return max((1 + of(job.parents) for job in here), default=0)

    return [of(job.parents) for job in jobs]


def _kind(job: Job, generation: int) -> str | None:
    """What jobs that can be packed have in common; None: nothing can be packed with this one."""
    if len(job.configs) > 1:
        return None
    program = trials.program(job.configs[0])
    # Runs that wait, for a trunk or for those that they begin with, are not made to wait for by
    # those that do not.
    apart = generation, bool(job.trunks)
    return None if program is None else repr((apart, to_dict(program)))


def _joined(jobs: Sequence[Job]) -> Job:
    if len(jobs) == 1:
        return jobs[0]
    trunks = dict.fromkeys(name for job in jobs for name in job.trunks)
    return Job(
        configs=tuple(config for job in jobs for config in job.configs),
        branches=tuple(branch for job in jobs for branch in job.branches),
        trunks=tuple(trunks),
        parents=tuple(dict.fromkeys(name for job in jobs for name in job.parents)),
        pauses=tuple(pause for job in jobs for pause in job.pauses),
    )


def largest(config: RunConfig, devices: Sequence[Any], processes: int = 1) -> int:
    """Members of the largest group of runs like this one that fits, and that pays."""
    form = trials.form_of(devices[0].platform)
    mesh = trials.mesh_of(config.mesh, devices, members=len(devices))
    ways, enough = mesh.trial, _ENOUGH[form]
    if form == "loop" and convolves(config.model, config.data):
        return ways  # in the body of a loop XLA's convolutions on a CPU take many times as long
    limit = device_bytes(devices[0], len(devices) * processes)
    try:
        one = memory.estimate_bytes(config, max(1, len(devices) // ways), devices[0].platform)
    except ConfigError:
        return 1  # a mesh that cannot be: the run will say so
    if limit is None:
        return ways * enough
    # A loop has the activations of one member at a time, and the states of all.
    each = one.total if form == "vmap" else one.params + one.optimizer + one.batch
    once = 0.0 if form == "vmap" else one.temporaries
    measured = timing.device_bytes(config, devices[0].device_kind, ways)
    if measured is not None:
        total, members = measured
        each, once = (total / members, 0.0) if form == "vmap" else (each, total - members * each)
    return ways * max(1, min(enough, int((_SHARE * limit - once) / each)))


def text(jobs: Sequence[Job]) -> str:
    """Which runs are packed together, for the dry run, and which cannot be, because they are
    watched; empty where none are.
    """
    groups = [job for job in jobs if len(job.configs) > 1]
    runs = sum(len(job.configs) for job in groups)
    lines = [f"{runs} runs are packed into {len(groups)} programs:"] if groups else []
    for number, job in enumerate(groups, start=1):
        lines.append(f"  program {number}, {len(job.configs)} runs:")
        lines += [f"    {run_name(config)}" for config in job.configs]
    watched = sum(job.configs[0].train.watch_every is not None for job in jobs)
    if watched:
        lines.append(f"{watched} run(s) with train.watch_every are trained alone, never packed")
    return "\n".join(lines)
