"""When a run logs, evaluates and saves, and when it has diverged: pure functions of the step.

Takes a resolved config, steps, and metrics as they come from the device; gives the lines that are
due. Both loops call it, that of one run (`loop.py`) and that of a packed group (`packed.py`), so
that a run's directory does not depend on which of them trained it.
"""

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from etils import epath

from scaling.config import RunConfig, amounts
from scaling.place import program
from scaling.train import fingerprints


class Diverged(Exception):
    """A loss or gradient that is not finite; `step` updates were fine."""

    def __init__(self, step: int, what: str):
        super().__init__(what)
        self.step = step

    def reason(self, run: epath.PathLike) -> str:
        """What happened, and the command that looks into it; `run` is the run's directory."""
        command = f"{program()} debug {shlex.quote(str(run))} --step={self.step + 1}"
        return f"{self}; look into it: {command}"


def next_edge(step: int, config: RunConfig, also: Iterable[int] = ()) -> int:
    """The step after which the call that starts at `step` must end.

    A pure function of the step, so that a run cut into two makes the same calls: edges are the
    multiples of steps_per_call, of every rhythm (evaluation, checkpoint), the two ends of the
    profiler's trace, what comes before a watched update, the steps given in `also`, and the last
    step.
    """
    train = config.train
    rhythms = [train.steps_per_call, *_save_rhythms(config), config.evals.every]
    edges = [(step // rhythm + 1) * rhythm for rhythm in rhythms if rhythm]
    last = amounts.resolved(train.steps)
    ends = [edge for edge in (*trace(config), *also, last) if edge > step]
    if train.watch_every:  # a watched update is the first of its call
        edges.append(((step + 1) // train.watch_every + 1) * train.watch_every - 1)
    return min(edges + ends)


def trace(config: RunConfig) -> tuple[int, ...]:
    """First step of the profiler's trace and the one after its last; () when it is off."""
    start, steps = config.train.profile_start, amounts.resolved(config.train.steps)
    if start is None or start >= steps:
        return ()
    return start, min(start + config.train.profile_steps, steps)


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def evaluates(step: int, config: RunConfig) -> bool:
    """Whether the state after `step` updates is evaluated."""
    return step == config.train.steps or _due(step, config.evals.every)


def evaluates_start(step: int, config: RunConfig) -> bool:
    """Whether a state that a run begins with is evaluated before it is trained."""
    return step == 0 and config.evals.at_start


def watches(step: int, config: RunConfig) -> bool:
    """Whether the update number `step` is looked into."""
    return _due(step, config.train.watch_every)


def saves(step: int, config: RunConfig) -> bool:
    """Whether the state after `step` updates is saved."""
    every = _save_rhythms(config)
    return step == config.train.steps or any(_due(step, rhythm) for rhythm in every)


def _save_rhythms(config: RunConfig) -> tuple[int | None, ...]:
    """Where a spike is gone back on, there must be a state to go back to (`spikes.py`)."""
    train = config.train
    return train.checkpoint_every, train.spike_window if train.spike_z is not None else None


def kept(steps: Sequence[int], config: RunConfig) -> set[int]:
    """Of the steps that are saved, those whose checkpoints stay: the newest keep_checkpoints.

    Where a spike is gone back on, any of these may be the one that the run goes on from, and the
    first spike after it leads back to the last multiple of spike_window not after it: that stays,
    too.
    """
    train = config.train
    newest = sorted(steps)[-train.keep_checkpoints :]
    back_to = [step for step in steps if step % train.spike_window == 0 and step <= newest[0]]
    if train.spike_z is None or not back_to:
        return set(newest)
    return {max(back_to), *newest}


@dataclass(frozen=True)
class Due:
    """What a call of the step leaves to be written, oldest first."""

    lines: list[tuple[int, dict[str, Any]]]  # updates made, metrics of the last of them
    hashes: list[tuple[int, dict[str, int]]]  # updates made, the hash of every tensor
    problem: Diverged | None  # the first step that is not finite; nothing from it on is due


def due_lines(
    start: int,
    edge: int,
    fetched: Mapping[str, np.ndarray],
    config: RunConfig,
    hashed: Sequence[str] = (),
) -> Due:
    """What is due for the log of the call from `start` to `edge`.

    Args:
      fetched: metrics of each of its steps, [K]; the first `edge - start` count. "hash", if it is
        there, is [K, tensors].
      hashed: names of those tensors.
    """
    due = Due([], [], None)
    for i, step in enumerate(range(start + 1, edge + 1)):
        metrics: dict[str, Any] = {n: float(v[i]) for n, v in fetched.items() if n != "hash"}
        for name in ("loss", "grad_norm"):
            if not math.isfinite(metrics[name]):
                problem = Diverged(step - 1, f"{name} is {metrics[name]} in step {step}")
                return replace(due, problem=problem)
        takes_hashes = "hash" in fetched and _due(step, config.train.fingerprint_every)
        if takes_hashes:
            hashes = dict(zip(hashed, fetched["hash"][i].tolist(), strict=True))
            due.hashes.append((step, hashes))
            metrics |= fingerprints.totals(hashes)
        if takes_hashes or _due(step, config.train.log_every) or step == config.train.steps:
            due.lines.append((step, metrics))
    return due


def check_means(step: int, means: Mapping[str, Mapping[str, float]]) -> None:
    """Raises Diverged if the loss of an evaluation set after `step` updates is not finite."""
    for name, mean in means.items():
        if not math.isfinite(mean.get("loss", 0.0)):
            raise Diverged(step, f"loss on {name} is {mean['loss']} after step {step}")
