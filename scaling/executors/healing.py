"""The answer to each class of failure (`scaling/train/failures.py`): no clocks and no files.

`answer` says what to do about a failed job: try again (when, and with which execution fields
changed), try its runs in halves, or give up. A bound counts attempts that made no new step since
the one before: a run that gets on is never given up. Called by `scheduler.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from scaling.config import RunConfig, choices, override, to_dict
from scaling.devices import meshes
from scaling.train.failures import Failure

# Each keeps less of a block for its backward pass than the one before (`models/remat.py`).
_REMAT = ("none", "dots", "full")
# Every `model.remat`, by what it keeps on the device, most first.
_BY_MEMORY = ("none", "dots", "attention", "offload", "full")


@dataclass(frozen=True)
class Bounds:
    """How long a failure is answered by another attempt."""

    attempts: int = 5  # in a row without a new step
    busy: float = 600.0  # seconds that a lock of another process is waited for
    disk: float = 3600.0  # seconds that a full file system is waited for


USUAL = Bounds()


@dataclass(frozen=True)
class Answer:
    """What is done about a failed job."""

    action: Literal["again", "halves", "give up"]
    text: str  # for a person
    changed: Mapping[str, Any] = field(default_factory=dict)  # execution fields, dotted
    seconds: float = 0.0  # to wait before


def answer(
    failure: Failure,
    runs: int,
    config: RunConfig,
    *,
    fruitless: int = 1,
    waited: float = 0.0,
    devices: int = 1,
    bounds: Bounds = USUAL,
) -> Answer:
    """What to do about a failed job.

    Args:
      failure: its class.
      runs: that the job still has to train: one, or those of a packed group.
      config: of the first of them, as it was trained.
      fruitless: attempts in a row that made no new step, this one included.
      waited: seconds since the failure was first met and not overcome (busy, disk).
      devices: of one run.
      bounds: when to give up.
    """
    if failure == "preempted":
        return Answer("again", "resumed")
    if failure == "busy":
        if waited < bounds.busy:
            return Answer("again", "waiting for the other process", seconds=2.0)
        return Answer("give up", f"the other process held it for {waited:.0f} s")
    if failure == "disk":
        if waited < bounds.disk:
            return Answer("again", "waiting for space", seconds=min(60.0, max(1.0, waited)))
        return Answer("give up", f"no space for {waited:.0f} s")
    if runs > 1 and (failure in ("memory", "config", "error") or fruitless > 1):
        # One bad member must not take the others with it; and half a group needs half the memory.
        return Answer("halves", f"its {runs} runs tried in halves")
    if failure == "memory":
        changed = less_memory(config, devices)
        if changed:
            return Answer("again", f"tried again with {shown(changed)}", changed)
        return Answer("give up", "the batch cannot be cut further and remat is full")
    if failure == "lost" and fruitless < bounds.attempts:
        return Answer("again", "tried again", seconds=float(min(30, 2 ** (fruitless - 1) - 1)))
    if failure == "lost":
        return Answer("give up", f"{fruitless} attempts in a row made no step")
    return Answer("give up", "not tried again: it would end the same way")


def less_memory(config: RunConfig, devices: int = 1) -> dict[str, Any] | None:
    """Execution fields with which a run needs less memory and computes the same; None: no more.

    Twice the microbatches while the pieces of the batch divide over `devices`; then the backward
    pass keeps less and computes more again.
    """
    pieces = 2 * config.train.microbatches
    if _divides(config, pieces, devices):
        return {"train.microbatches": pieces}
    remat = config.model.remat
    if remat == "full":
        return None
    higher = _REMAT[_REMAT.index(remat) + 1] if remat in _REMAT else "full"
    return {"model.remat": higher}


def _divides(config: RunConfig, pieces: int, devices: int) -> bool:
    """Whether a batch in so many pieces can be cut over the mesh (`meshes.check_batch`)."""
    sizes = to_dict(config.mesh)
    over = [n for axis, n in sizes.items() if axis in meshes.BATCH_AXES]
    others = math.prod(n for axis, n in sizes.items() if axis not in meshes.BATCH_AXES)
    # `devices` may be unknown, and then 1; what the config asks for is known.
    rows = math.prod(n or 1 for n in over)
    if None in over:
        rows = max(rows, devices // others)
    pipeline, _ = choices.family(config.model).pipeline(config.model, config.mesh.stage)
    return config.train.batch_size % (pieces * rows * pipeline) == 0


def shown(changed: Mapping[str, Any]) -> str:
    """ "train.microbatches=2, model.remat=dots"."""
    return ", ".join(f"{name}={value}" for name, value in changed.items())


def healed(config: RunConfig, changed: Mapping[str, Any]) -> RunConfig:
    """The run with execution fields changed: the same run, computed another way."""
    return override(config, changed) if changed else config


def as_recorded(config: RunConfig, changed: Mapping[str, Any], devices: int = 1) -> RunConfig:
    """The run as the study has it and with what earlier attempts had to change: of the two always
    what needs less memory, since the study may have been changed since.

    Pieces of a batch that cannot be cut over the `devices` of today are made fewer, down to those
    of the study: they were found with other devices.
    """
    changed = dict(changed)
    if "train.microbatches" in changed:
        least, pieces = config.train.microbatches, changed["train.microbatches"]
        while pieces > least and not _divides(config, pieces, devices):
            pieces -= 1
        changed["train.microbatches"] = max(least, pieces)
    if "model.remat" in changed:
        both = (config.model.remat, changed["model.remat"])
        changed["model.remat"] = max(both, key=_BY_MEMORY.index)
    return healed(config, changed)
