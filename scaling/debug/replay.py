"""`launch.py verify`: k steps of a run are computed again from one of its checkpoints.

Reads the run's directory and writes nowhere: the step is compiled as the loop compiles it, the
batches are a function of the step, so that metrics and hashes must be those that are recorded.
`scaling/debug` goes to a step by the same `Replayer`.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from etils import epath

from scaling import data, optim
from scaling.config import RunConfig, override, programs
from scaling.costs import counts
from scaling.devices import meshes, sharding
from scaling.errors import CheckpointError, UserError
from scaling.records import RunDirectory, timing
from scaling.records.comparison import (
    LineDifference,
    TensorDifference,
    first_line,
    first_tensors,
    tensors_text,
)
from scaling.records.starts import Start, makers
from scaling.studies import study
from scaling.train import begins, checkpoint, fingerprints
from scaling.train import state as state_lib
from scaling.train.placement import place
from scaling.train.rhythm import Due, due_lines, next_edge
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
    problem: str | None = None  # what came out not finite here, and was not then
    notes: tuple[str, ...] = field(default=())

    @property
    def equal(self) -> bool:
        """Whether the recorded run is what its config computes."""
        found = (self.damaged, self.tensors, self.line, self.problem)
        return found == (None,) * 4

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
        out += [f"here alone: {self.problem}"] if self.problem else []
        out += [f"note: {note}" for note in self.notes]
        return "\n".join([*out, "EQUAL" if self.equal else "DIFFERENT"])


def verify(
    directory: RunDirectory, steps: int = 10, devices: Sequence[jax.Device] | None = None
) -> Replay:
    """Replay up to `steps` steps and compare them with what the run recorded.

    It begins from the newest checkpoint that has recorded steps after it, or from nothing where
    there is none. Where one start of the run made those steps (`scaling/records/starts.py`), on the
    same kind and number of devices, alone in its program, every bit must be equal.

    Raises UserError for a run without recorded steps, or with none of those to be replayed; for
    data that are not those it had, or a checkpoint that cannot be read.
    """
    record = directory.record()
    lines = [line for line in directory.metrics() if line["split"] == "train"]
    end = max((line["step"] for line in lines), default=0)
    if not end:
        raise UserError(f"{directory.path} has no recorded steps yet; train the run first")
    path = directory.path / "checkpoints"
    began = max((step for step in checkpoint.steps(path) if step < end), default=0)
    last = min(began + steps, end)
    compared = [line for line in lines if began < line["step"] <= last]
    if not compared:
        raise UserError(
            f"{directory.path}/metrics.jsonl has no line of steps {began + 1} to {last}; give a "
            "larger --steps"
        )
    starts = directory.starts(record)
    made = makers(starts, began, last)
    newest = made[-1] or starts[-1]
    given = list(devices if devices is not None else jax.devices())
    given = given[: newest.provenance.get("device_count") or len(given)]
    notes = [f"{why}: compared to {TOLERANCE:g}" for why in _reasons(directory, made, given)]
    # As the newest of them was executed; every step has its line, whichever were recorded.
    config = override(directory.config(record), {**newest.execution, "train.log_every": 1})
    replayer = Replayer(study.resolve(config), given, directory.path.parent)
    exact, recorded = not notes, directory.hashes()
    if exact and not recorded:
        notes.append("the run has no hashes (train.fingerprint_every): metrics alone are compared")
    state, of_saved = replayer.read(path, began, recorded)
    then = {step: _of_state(recorded[step]) for step in of_saved}
    spikes = Spikes(config, directory.spikes())
    seen, hashes, problem = replayer.run(state, began, last, spikes)
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
        problem=problem,
        notes=tuple(notes),
    )


def _reasons(
    directory: RunDirectory, made: Sequence[Start | None], devices: Sequence[jax.Device]
) -> list[str]:
    """Why steps that these starts made cannot be asked to be the same to the last bit here."""
    reasons = []
    if made[-1] is not None:
        here = {"device_kind": devices[0].device_kind, "device_count": len(devices)}
        then = {name: made[-1].provenance.get(name) for name in here}
        reasons = [f"{n} was {then[n]} and is {here[n]} here" for n in here if then[n] != here[n]]
    if made[0] is None:
        reasons.append("the first of these steps are another run's")
    if len(made) > 1:
        reasons.append(f"{len(made)} starts that differ made these steps")
    reasons += [f"{n} was changed to {v} on the way" for n, v in directory.changed().items()]
    cost = timing.of_run(directory)
    groups = [start.provenance.get("members", 1) for start in made if start is not None]
    if (members := max([cost.members if cost else 1, *groups])) > 1:
        reasons.append(f"trained in a group of {members}, here alone")
    return reasons


def _of_state(hashes: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in hashes.items() if not name.startswith("batch/")}


class Replayer:
    """The step of a run as the loop compiles it, on devices of this process."""

    def __init__(
        self, config: RunConfig, devices: Sequence[jax.Device], runs: epath.Path | None = None
    ):
        """`runs`: the folder where the run that this one begins with is looked for."""
        self.config, self.runs = config, runs
        self.mesh = meshes.make_mesh(config.mesh, devices)
        meshes.check_batch(config, self.mesh)
        self.pieces = state_lib.parts(config)
        self.plan = state_lib.layout(self.pieces, config, self.mesh)
        like = self.plan.abstract
        shapes = counts.batch_shapes(config)
        self.names = fingerprints.names(like.params, like.opt_state, like.ema, shapes)

    def read(
        self, path: epath.Path, began: int, recorded: Collection[int]
    ) -> tuple[TrainState | None, dict[int, dict[str, int]]]:
        """Every checkpoint, one in memory at a time: the state of step `began`, None where there is
        none, and the hashes of those whose steps are `recorded`.
        """
        state: TrainState | None = None
        hashes = {}
        for step in sorted(checkpoint.steps(path), key=lambda step: (step == began, step)):
            state = None  # let go before the next is read
            state = self.load(path / str(step))
            if step in recorded:
                hashes[step] = self.hashes(state)
            state = state if step == began else None
        return state, hashes

    def load(self, path: epath.Path) -> TrainState:
        """The state of one checkpoint. Raises CheckpointError for one that cannot be read."""
        try:
            return checkpoint.load(path, self.plan.abstract, self.config)
        except CheckpointError:
            raise
        except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
            first, *_ = [*str(error).splitlines(), ""]
            raise CheckpointError(
                f"checkpoint {path} cannot be read ({type(error).__name__}: {first}); training "
                "again sets it aside and goes on from the one before"
            ) from error

    def hashes(self, state: TrainState) -> dict[str, int]:
        """Name -> hash of every tensor of a state."""
        offload = self.config.optim.offload
        moments = optim.on_device(state.opt_state) if offload else state.opt_state
        with sharding.context(self.mesh):
            taken = jax.jit(fingerprints.of_step)(state.params, moments, state.ema, {})
        return dict(zip(self.names, jax.device_get(taken).tolist(), strict=False))

    def run(
        self, state: TrainState | None, first: int, last: int, spikes: Spikes
    ) -> tuple[list[dict[str, Any]], dict[int, dict[str, int]], str | None]:
        """Lines and hashes of the steps after `first` up to `last`, and what was not finite, if
        anything was; the state is donated.

        `spikes`: those of the run, whose batches it skipped.
        """
        lines: list[dict[str, Any]] = []
        hashes: dict[int, dict[str, int]] = {}
        for _, due in self.calls(state, first, last, spikes):
            lines += [{"step": s, "split": "train", **metrics} for s, metrics in due.lines]
            hashes |= dict(due.hashes)
            if due.problem is not None:
                return lines, hashes, str(due.problem)
        return lines, hashes, None

    def calls(
        self, state: TrainState | None, first: int, last: int, spikes: Spikes
    ) -> Iterator[tuple[TrainState, Due]]:
        """The state after each call of the step and what the call leaves to be written, from
        `state`, after `first` updates, to that after `last`; every state is donated to the next
        call. None: the state that the run begins with.
        """
        config = self.config
        stacked, whole = sharding.stacked_batch_sharding(self.mesh), sharding.replicated(self.mesh)
        batches, size = data.train_batches(config), config.train.steps_per_call
        with sharding.context(self.mesh):
            if state is None:
                state = self.begin()
            run_steps = compile_steps(self.pieces, config, self.plan)
            hparams = place(programs.hparams(config), whole)
            step = first
            while step < last:
                edge = min(next_edge(step, config), last)
                taken = [batches.batch(spikes.batch_of(s)) for s in range(step, edge)]
                taken += taken[-1:] * (size - len(taken))
                group = {k: np.stack([b[k] for b in taken]) for k in taken[0]}
                count = place(np.int32(edge - step), whole)
                state, metrics_K = run_steps(state, place(group, stacked), count, hparams)
                yield state, due_lines(step, edge, jax.device_get(metrics_K), config, self.names)
                step = edge

    def begin(self) -> TrainState:
        """The state that the run begins with."""
        state = state_lib.init(self.pieces, self.config, self.plan)
        return begins.begin(state, self.config, self.plan, self.runs)
