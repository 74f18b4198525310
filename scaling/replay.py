"""`launch.py verify`: k steps of a run are computed again from one of its checkpoints.

Reads the run's directory and writes nowhere: the step is compiled as the loop compiles it, the
batches are a function of the step, so that metrics and hashes must be those that are recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from scaling import costs, data, fingerprints, meshes, optim, sharding, study, timing
from scaling.comparison import (
    LineDifference,
    TensorDifference,
    first_line,
    first_tensors,
    tensors_text,
)
from scaling.config import RunConfig
from scaling.errors import CheckpointError, UserError
from scaling.records import RunDirectory
from scaling.train import checkpoint
from scaling.train import state as state_lib
from scaling.train.placement import place
from scaling.train.rhythm import due_lines, next_edge
from scaling.train.spikes import Spikes
from scaling.train.state import TrainState
from scaling.train.step import compile_steps

TOLERANCE = 1e-5  # relative, where other devices or another program computed the run


@dataclass(frozen=True)
class Replay:
    """What `verify` found."""

    first: int  # step that it began from
    last: int  # step that it reached
    exact: bool  # every bit must be equal; else the metrics, to TOLERANCE
    checkpoints: int  # whose states were held against the hashes recorded at their steps
    damaged: TensorDifference | None  # the first of them that is not what was recorded
    tensors: TensorDifference | None  # of the steps computed again
    hashes: int  # steps whose hashes were compared
    line: LineDifference | None
    lines: int  # lines of metrics that were compared
    notes: tuple[str, ...] = field(default=())

    @property
    def equal(self) -> bool:
        """Whether the recorded run is what its config computes."""
        return self.damaged is None and self.tensors is None and self.line is None

    def __str__(self) -> str:
        how = "bit for bit" if self.exact else f"to {TOLERANCE:g}"
        out = [f"replayed steps {self.first + 1} to {self.last}, compared {how}"]
        if self.damaged is not None:
            names = ", ".join(self.damaged.names[:3])
            more = ", ..." if self.damaged.names[3:] else ""
            out.append(
                f"checkpoint of step {self.damaged.step}: NOT the state recorded then: "
                f"{names}{more}"
            )
        elif self.checkpoints:
            out.append(f"checkpoints: {self.checkpoints} with the hashes recorded at their steps")
        if self.exact:
            out.append(f"tensors: {tensors_text(self.tensors, self.hashes)}")
        found = f"first difference, {self.line}" if self.line else f"equal in {self.lines} lines"
        out.append(f"metrics: {found}")
        out += [f"note: {note}" for note in self.notes]
        return "\n".join([*out, "EQUAL" if self.equal else "DIFFERENT"])


def verify(
    directory: RunDirectory, steps: int = 10, devices: Sequence[jax.Device] | None = None
) -> Replay:
    """Replay up to `steps` steps and compare them with what the run recorded.

    It begins from the newest checkpoint that has recorded steps after it, or from nothing where
    there is none. Where the run was made on the same kind and number of devices, every bit must be
    equal.

    Raises UserError for a run without recorded steps, data that are not those it had, or a
    checkpoint that cannot be read.
    """
    config = study.resolve(directory.config())
    lines = [line for line in directory.metrics() if line["split"] == "train"]
    end = max((line["step"] for line in lines), default=0)
    if not end:
        raise UserError(f"{directory.path} has no recorded steps yet; train the run first")
    made_by = directory.record()["provenance"]
    given = list(devices if devices is not None else jax.devices())
    given = given[: made_by.get("device_count") or len(given)]
    here = {"device_kind": given[0].device_kind, "device_count": len(given)}
    notes = [
        f"{name} was {made_by.get(name)} and is {value} here: compared to {TOLERANCE:g}"
        for name, value in here.items()
        if made_by.get(name) != value
    ]
    changed = directory.changed()
    notes += [
        f"{n} was changed to {v} on the way: compared to {TOLERANCE:g}" for n, v in changed.items()
    ]
    cost = timing.of_run(directory)
    if cost is not None and cost.members > 1:
        notes.append(f"trained in a group of {cost.members}, here alone: compared to {TOLERANCE:g}")
    exact, replayer, recorded = not notes, _Replayer(config, given), directory.hashes()
    if exact and not recorded:
        notes.append("the run has no hashes (train.fingerprint_every): metrics alone are compared")
    saved = replayer.saved(directory)
    began = max((step for step in saved if step < end), default=0)
    last = min(began + steps, end)
    compared = [line for line in lines if began < line["step"] <= last]
    if not compared:
        raise UserError(
            f"{directory.path}/metrics.jsonl has no line of steps {began + 1} to {last}; give a "
            "larger --steps"
        )
    of_saved = {step: replayer.hashes(saved[step]) for step in saved if step in recorded}
    then = {step: _of_state(recorded[step]) for step in of_saved}
    spikes = Spikes(config, directory.spikes())
    seen, hashes = replayer.run(saved.get(began), began, last, spikes)
    return Replay(
        first=began,
        last=last,
        exact=exact,
        checkpoints=len(of_saved),
        damaged=first_tensors(then, of_saved),
        tensors=first_tensors(recorded, hashes) if exact else None,
        hashes=len(set(recorded) & set(hashes)),
        line=first_line(compared, seen, 0.0 if exact else TOLERANCE),
        lines=len({line["step"] for line in compared} & {line["step"] for line in seen}),
        notes=tuple(notes),
    )


def _of_state(hashes: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in hashes.items() if not name.startswith("batch/")}


class _Replayer:
    """The step of a run as the loop compiles it, on devices of this process."""

    def __init__(self, config: RunConfig, devices: Sequence[jax.Device]):
        self.config = config
        self.mesh = meshes.make_mesh(config.mesh, devices)
        meshes.check_batch(config, self.mesh)
        self.pieces = state_lib.parts(config)
        self.plan = state_lib.layout(self.pieces, config, self.mesh)
        like = self.plan.abstract
        shapes = costs.batch_shapes(config)
        self.names = fingerprints.names(like.params, like.opt_state, like.ema, shapes)

    def saved(self, directory: RunDirectory) -> dict[int, TrainState]:
        """Step -> state, of every checkpoint."""
        found, path = {}, directory.path / "checkpoints"
        for step in checkpoint.steps(path):
            try:
                found[step] = checkpoint.load(path / str(step), self.plan.abstract, self.config)
            except CheckpointError:
                raise
            except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
                first, *_ = [*str(error).splitlines(), ""]
                raise CheckpointError(
                    f"checkpoint {path / str(step)} cannot be read ({type(error).__name__}: "
                    f"{first}); training again sets it aside and goes on from the one before"
                ) from error
        return found

    def hashes(self, state: TrainState) -> dict[str, int]:
        """Name -> hash of every tensor of a state."""
        offload = self.config.optim.offload
        moments = optim.on_device(state.opt_state) if offload else state.opt_state
        with sharding.context(self.mesh):
            taken = jax.jit(fingerprints.of_step)(state.params, moments, state.ema, {})
        return dict(zip(self.names, jax.device_get(taken).tolist(), strict=False))

    def run(
        self, state: TrainState | None, first: int, last: int, spikes: Spikes
    ) -> tuple[list[dict[str, Any]], dict[int, dict[str, int]]]:
        """Lines and hashes of the steps after `first` up to `last`; the state is donated.

        `spikes`: those of the run, whose batches it skipped.
        """
        config = self.config
        stacked, whole = sharding.stacked_batch_sharding(self.mesh), sharding.replicated(self.mesh)
        batches, size = data.train_batches(config), config.train.steps_per_call
        lines: list[dict[str, Any]] = []
        hashes: dict[int, dict[str, int]] = {}
        with sharding.context(self.mesh):
            if state is None:
                state = state_lib.init(self.pieces, config, self.plan)
            run_steps = compile_steps(self.pieces, config, self.plan)
            hparams = place(optim.hparams(config), whole)
            step = first
            while step < last:
                edge = min(next_edge(step, config), last)
                taken = [batches.batch(spikes.batch_of(s)) for s in range(step, edge)]
                taken += taken[-1:] * (size - len(taken))
                group = {k: np.stack([b[k] for b in taken]) for k in taken[0]}
                count = place(np.int32(edge - step), whole)
                state, metrics_K = run_steps(state, place(group, stacked), count, hparams)
                due = due_lines(step, edge, jax.device_get(metrics_K), config, self.names)
                lines += [{"step": s, "split": "train", **metrics} for s, metrics in due.lines]
                hashes |= dict(due.hashes)
                if due.problem is not None:
                    break
                step = edge
        return lines, hashes
