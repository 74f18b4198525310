"""Runs that share their first steps: which run is the trunk, and where the others leave it.

A warm-up, stable, decay run has no decay in it until its cool-down begins. Runs that differ only in
how long they are and how they cool down are one run up to there, so it is trained once (Hu et al.
2024, MiniCPM, section 4; Hägele et al. 2024). Takes resolved runs; gives trunks with their
branches, and jobs. Called by `launch.py sweep`; `scaling/train/branch.py` begins a branch.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scaling.config import RunConfig, amounts, run_name, to_dict
from scaling.costs import sizes
from scaling.executors.jobs import Branch, Job

# Schedules whose learning rate up to some step does not depend on the length of the run.
_SHARED = ("wsd", "constant", "rsqrt")


@dataclass(frozen=True)
class Trunk:
    """A run, and the runs that leave it, in the order of the steps at which they do."""

    config: RunConfig
    branches: tuple[Branch, ...] = ()

    @property
    def flops_saved(self) -> float:
        """Training FLOPs that the branches need not spend."""
        return sum(
            sizes.cost(b.config).flops * b.step / amounts.resolved(b.config.train.steps)
            for b in self.branches
        )


def shared_steps(config: RunConfig) -> int:
    """Updates of a resolved run in which neither its length nor its cool-down plays a part."""
    steps = amounts.resolved(config.train.steps)
    # A spike sends a run back: what follows is its own.
    if config.optim.schedule not in _SHARED or config.train.spike_z is not None:
        return 0
    # On the way a run is evaluated on what it will have seen at its end: a function of its length.
    sets = config.evals.sets.values()
    seen = any(s.split in ("train", "flipped") and s.corpus == config.data.corpus for s in sets)
    if config.evals.every is not None and seen:
        return 0
    if config.optim.schedule == "wsd":
        return steps - round(config.optim.decay_fraction * steps)
    return steps - 1  # the last update is the branch's own, and with it its evaluation


def trunks(configs: Iterable[RunConfig]) -> list[Trunk]:
    """Each run once, as a trunk or as a branch of one; trunks in the order of their first run."""
    stems: dict[str, list[RunConfig]] = {}
    for config in configs:
        stems.setdefault(_stem(config), []).append(config)
    return [_trunk(members) for members in stems.values()]


def _trunk(members: Sequence[RunConfig]) -> Trunk:
    longest = max(members, key=shared_steps)
    branches = [Branch(shared_steps(config), config) for config in members if config is not longest]
    return Trunk(longest, tuple(sorted(branches, key=lambda branch: branch.step)))


def _stem(config: RunConfig) -> str:
    """What runs of one trunk have in common, how they are executed included."""
    values = to_dict(config)
    if shared_steps(config) > 0:
        values["train"]["steps"] = None
        if config.optim.schedule == "wsd":
            values["optim"] |= {"decay_fraction": None, "final_lr_fraction": None}
    return json.dumps(values, sort_keys=True)


def jobs(found: Iterable[Trunk]) -> list[Job]:
    """A job for each run: the trunks, then the branches, which wait for them."""
    first, then = [], []
    for trunk in found:
        name = run_name(trunk.config)
        first.append(Job((trunk.config,), tuple((name, branch) for branch in trunk.branches)))
        then += [Job((branch.config,), trunks=(name,)) for branch in trunk.branches]
    return first + then
