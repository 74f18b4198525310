"""The loop of a packed group: many runs, one program, each with a run directory of its own.

Takes resolved runs that share a program (`trials.program`) and a workdir; leaves the directories
that `loop.train` would leave: the same lines, evaluations and checkpoints at the same steps. Each
member has its own step: they may be of different lengths, and go on from different checkpoints,
written by this loop or by the other. Called by `executors/jobs.py`.
"""

import functools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from etils import epath

from scaling.config import RunConfig, choices, programs, run_name
from scaling.data import Batches
from scaling.devices import distributed, meshes, sharding, xla_flags
from scaling.errors import ConfigError, UserError
from scaling.train import begins, fingerprints
from scaling.train import member as member_lib
from scaling.train import trials as trials_lib
from scaling.train.compilation import Compiled, no_transfers
from scaling.train.evaluate import measure
from scaling.train.loop import PAUSED, TOLD, Outcome, check_shared, unevaluated
from scaling.train.member import Branches, Member, settle
from scaling.train.packed_data import GroupData, ahead
from scaling.train.passes import Program, fetched, function
from scaling.train.placement import place
from scaling.train.progress import Progress
from scaling.train.rhythm import due_lines, evaluates, evaluates_start, saves
from scaling.train.state import TrainState, compile_init, start_values
from scaling.train.trials import Form, Trials

_ENDERS = 4  # threads that wait for the last checkpoints of members, in a process alone


def train_packed(
    configs: Sequence[RunConfig],
    workdir: epath.PathLike,
    *,
    devices: Sequence[jax.Device] | None = None,
    stop: threading.Event | None = None,
    quiet: bool = False,
    branches: Sequence[Branches] | None = None,
    pauses: Sequence[int | None] | None = None,
    form: Form | None = None,
) -> list[Outcome | Exception]:
    """Train resolved runs in one program, each from wherever its run directory stands.

    Args:
      configs: resolved, each once, of one program.
      workdir: the run directories are <workdir>/runs/<run_name(config)>.
      devices: of the mesh; None: all. Those that the runs' mesh leaves free are spread over trials.
      stop: when set, the states are saved and the outcomes are "stopped".
      quiet: no progress on stderr.
      branches: of each run, those that begin from its state, under the updates they share.
      pauses: of each run, the `pause` of `loop.train`.
      form: how the program does many runs; None: the platform's faster one.

    Returns, in the order of `configs`, how each ended, the same in every process; an exception for
    one that failed, whose status.json says it too. Of several processes, one that cannot go on
    together with the others raises, and must end: the others wait for it.
    """
    devices = list(devices or jax.devices())
    leaves: Sequence[Branches] = branches or [{} for _ in configs]
    ends = pauses or [None for _ in configs]
    each = zip(configs, leaves, ends, strict=True)
    members = [Member(config, workdir, own, pause) for config, own, pause in each]
    member_lib.start(members, devices)
    todo = [member for member in members if member.active]
    group, steps = None, sum(member.steps for member in todo)
    silent = quiet or not todo or jax.process_index() > 0
    try:
        with Progress("packed", steps, silent, runs=len(todo)) as progress:
            if todo:
                with distributed.together():
                    for member in todo:
                        check_shared(member.run)
                    group = _Group(todo, devices, stop or threading.Event(), progress, form)
                group.train()
    except Exception as error:
        met_by_all = group is None and isinstance(error, UserError)
        goes_on = jax.process_count() == 1 or met_by_all
        for member in (member for member in todo if member.active):
            member.fail(error) if goes_on else member.abandon(error)
        if not goes_on:
            raise
    return [m.outcome for m in members if m.outcome is not None]


@dataclass(frozen=True)
class _Call:
    """What one dispatch of the step does; lists have an entry a member."""

    starts: list[int]
    edges: list[int]
    batches_TxK: Any  # on the mesh


class _Group:
    """The members that one program trains, in its slots."""

    def __init__(
        self,
        members: list[Member],
        devices: Sequence[jax.Device],
        stop: threading.Event,
        progress: Progress,
        form: Form | None,
    ):
        first = members[0].config
        for member in members:
            _check_alike(first, member.config)
        mesh = meshes.make_mesh(trials_lib.mesh_of(first.mesh, devices, len(members)), devices)
        self.members, self.stop, self.progress = members, stop, progress
        self.trials: Trials = trials_lib.trials(first, mesh, len(members), form)
        like = self.trials.plan.abstract
        self.data = GroupData([member.config for member in members], self.trials)
        self.hashed = fingerprints.names(like.params, like.opt_state, like.ema, self.data.shapes)

    def train(self) -> None:
        """Until no member is active."""
        mesh = self.trials.mesh
        with sharding.context(mesh), ThreadPoolExecutor(_ENDERS) as self.enders:
            state = self._begin()
            self.first, self.began = sum(m.step for m in self.members), time.monotonic()
            self.compiling = self.evaluating = 0.0  # seconds, which are not training time
            measure = choices.objective(self.members[0].config.objective).metrics["loss"].label
            self.progress.begin(self.first, measure)
            self._announce()
            self._loop(state)
            settle(self.members)

    def _begin(self) -> TrainState:
        """The states that the members go on from, as one."""
        trials, mesh = self.trials, self.trials.mesh
        whole = sharding.replicated(mesh)
        init = compile_init(trials.pieces, trials.config, trials.plan)
        stack = trials.empty()
        for slot, member in enumerate(self.members):
            member.slot = slot
            with member.guarded_together():
                state = member.restore(trials.plan.abstract)
                if state is None:
                    state = init(*start_values(member.config, mesh))
                    runs = member.run.path.parent
                    state = begins.begin(state, member.config, trials.plan, runs)
                first = int(jax.device_get(state.step))
                stack = trials.insert(stack, place(np.int32(slot), whole), state)
            if member.active:
                with member.guarded():
                    member.go_on(first, mesh, len(self.members))
        settle(self.members)
        return stack

    def _announce(self) -> None:
        config, plan = self.trials.config, self.trials.plan
        sizes = {axis: n for axis, n in plan.mesh.shape.items() if n > 1}
        self.progress.say(
            f"{len(self.members)} runs, {self.trials.form} over {self.trials.slots} slots, mesh "
            f"{sizes or 1}"
        )
        if config.train.xla_flags != "none":
            self.progress.say(
                xla_flags.text(config.train.xla_flags, plan.mesh.devices.flat[0].platform)
            )
        for row in sharding.check(plan.boxed, plan.shardings, plan.mesh):
            if row.warning:
                self.progress.say(f"WARNING: {row.warning}")

    # ---- the loop

    def _loop(self, state: TrainState) -> None:
        trials, members = self.trials, self.members
        self._compiled = functools.cache(
            lambda program: trials.compile_rows(
                function(trials.pieces, trials.config, program), program.given
            )
        )
        self._end_finished(state)
        self._evaluate(
            {m: 0 for m in members if m.active and evaluates_start(m.step, m.config)}, state
        )
        settle(members)
        run_steps = Compiled(trials.compile_steps())
        hparams = trials.place_values(self._hparams())
        vote = distributed.StopVote(self.stop, trials.mesh)
        counts: list[int] = []
        pending: tuple[_Call, Any] | None = None
        for call in ahead(self._calls()):
            wanted = [
                edge - start if member.active else 0
                for member, start, edge in zip(members, call.starts, call.edges, strict=True)
            ]
            if not any(wanted):
                continue
            if wanted != counts:
                counts = wanted
                placed = self._place_counts(counts)
            with no_transfers():
                state, metrics_TxK = run_steps(state, call.batches_TxK, *placed, hparams)
            vote.cast()
            self.compiling = run_steps.seconds
            self.progress.compiled()
            for member, _ in self._active(call):
                member.recorder.compiled(run_steps)
            self._drain(pending)
            pending = (call, metrics_TxK)
            stops = vote.passed()
            if stops or any(self._rests(m, edge) for m, edge in self._active(call)):
                # What a checkpoint's step implies must be on disk before the checkpoint is.
                self._drain(pending)
                pending = None
                self._rest(call, state, stops)
            if stops:
                break
        self._drain(pending)

    def _end_finished(self, state: TrainState) -> None:
        """End the members that were cut off between their last state and their end, or pause."""
        finished = [m for m in self.members if m.active and m.step == m.steps]
        self._evaluate({m: m.steps for m in finished if unevaluated(m.config, m.run)}, state)
        settle(self.members)
        for member in finished:
            if member.active:
                self._end(member, Outcome("done", member.steps))
        for member in self.members:
            if member.active and member.step >= member.last:
                self._end(member, Outcome("stopped", member.step, PAUSED))

    def _active(self, call: _Call) -> list[tuple[Member, int]]:
        """The members that go on, and the steps at which the call leaves them."""
        return [(m, edge) for m, edge in zip(self.members, call.edges, strict=True) if m.active]

    def _rests(self, member: Member, edge: int) -> bool:
        """Whether something is due for a member before it goes on."""
        config = member.config
        due = evaluates(edge, config) or saves(edge, config) or edge == member.last
        return due or edge in member.branches

    def _rest(self, call: _Call, state: TrainState, stops: bool) -> None:
        """Evaluate, save and end the members for which it is time."""
        self._evaluate(
            {
                m: edge
                for m, edge in self._active(call)
                if evaluates(edge, m.config) or edge == m.last
            },
            state,
        )
        for member, edge in self._active(call):
            if stops or self._rests(member, edge):
                member.flush()
        settle(self.members)
        whole = sharding.replicated(self.trials.mesh)
        for member, edge in self._active(call):

            def own(slot: int = member.slot) -> TrainState:
                return self.trials.extract(state, place(np.int32(slot), whole))

            with member.guarded_together():
                told = saves(edge, member.config) or edge == member.last or stops
                member.save(edge, own, told)
        for member, edge in self._active(call):
            if edge == member.steps:
                self._end(member, Outcome("done", edge))
            elif edge == member.last or stops:
                reason = PAUSED if edge == member.last else TOLD
                self._end(member, Outcome("stopped", edge, reason))

    def _end(self, member: Member, outcome: Outcome) -> None:
        """End a member while the others go on."""
        member.outcome = outcome
        said = member.recorder.ended(outcome.status, outcome.step)
        self.progress.say(f"{said}: {run_name(member.config)}")
        if jax.process_count() == 1:
            self.enders.submit(member.end, outcome)
        else:
            member.end(outcome)  # the processes wait for each other, in one order

    def _drain(self, pending: tuple[_Call, Any] | None) -> None:
        """Fetch the metrics of an earlier call, log what is due, end who is not finite."""
        if pending is None:
            return
        call, metrics_TxK = pending
        fetched = jax.device_get(metrics_TxK)
        for slot, (member, start, edge) in enumerate(
            zip(self.members, call.starts, call.edges, strict=True)
        ):
            if member.active and edge > start:
                own = {name: values[slot] for name, values in fetched.items()}
                member.record(due_lines(start, edge, own, member.config, self.hashed))
                member.step = edge
        losses = [m.loss for m in self.members if np.isfinite(m.loss)]
        step = sum(m.step for m in self.members)
        seconds = time.monotonic() - self.began - self.compiling - self.evaluating
        rate = (step - self.first) / max(seconds, 1e-9)
        self.progress.update(step, float(np.mean(losses)) if losses else None, rate, None)

    # ---- what a call takes

    def _hparams(self) -> dict[str, np.ndarray]:
        values = [programs.hparams(member.config) for member in self.members]
        values += values[:1] * (self.trials.slots - len(values))
        return {name: np.stack([v[name] for v in values]) for name in values[0]}

    def _place_counts(self, counts: list[int]) -> tuple[jax.Array, jax.Array]:
        padded = np.zeros(self.trials.slots, np.int32)
        padded[: len(counts)] = counts
        whole = sharding.replicated(self.trials.mesh)
        return self.trials.place_values(padded), place(np.int32(max(counts)), whole)

    def _calls(self) -> Iterator[_Call]:
        """Every call until all members have ended; made ahead of time, in another thread."""
        at = [member.step for member in self.members]
        while True:
            edges = [
                m.next_edge(step) if m.active and step < m.last else step
                for m, step in zip(self.members, at, strict=True)
            ]
            if edges == at:
                return
            yield _Call(at, edges, self.data.steps(at, edges))
            at = edges

    # ---- evaluation

    def _evaluate(self, due: Mapping[Member, int], state: TrainState) -> None:
        if not due:
            return
        params = state.evaluated
        started = time.monotonic()
        means: dict[Member, dict[str, dict[str, float]]] = {member: {} for member in due}
        configs = {member.slot: member.config for member in due}
        each = functools.partial(self._each, params)
        for name in self.trials.config.evals.sets:
            sets = {slot: self.data.eval_sets[slot][name] for slot in configs}
            numbers = measure(configs, sets, name, each)
            for member in due:
                means[member][name] = numbers[member.slot]
        seconds = time.monotonic() - started
        self.evaluating += seconds
        for member in self.members:
            if member in due:
                # As if all had been evaluated: `Cost.eval_s` is of the whole group, as steps are.
                whole = seconds * len(self.members) / len(due)
                member.evaluated(due[member], means[member], seconds, whole)
            elif member.active:
                member.recorder.waited(seconds)

    def _each(
        self, params: Any, program: Program, sets: Mapping[int, Batches], given: Mapping[int, Any]
    ) -> Iterator[dict[int, Any]]:
        """See `passes.Each`."""
        trials, call = self.trials, self._compiled(program)
        wanted = np.zeros(trials.slots, bool)
        wanted[list(sets)] = True
        wanted_T, given_T = trials.place_values(wanted), []
        if given:
            nothing = np.zeros_like(next(iter(given.values())))
            own = [given.get(slot, nothing) for slot in range(trials.slots)]
            given_T = [trials.place_values(np.stack(own))]
        calls = (
            call(params, batch, wanted_T, *given_T) for batch in ahead(self.data.evaluation(sets))
        )
        for number, outputs in enumerate(fetched(calls)):
            yield {
                slot: jax.tree.map(lambda x, slot=slot: x[slot], outputs)
                for slot, batches in sets.items()
                if number < len(batches)
            }


def _check_alike(first: RunConfig, other: RunConfig) -> None:
    """Raises ConfigError unless two runs can share a program."""
    ours, theirs = trials_lib.program(first), trials_lib.program(other)
    if ours is None or ours != theirs:
        raise ConfigError(
            f"{run_name(first)} and {run_name(other)} cannot be packed: their programs differ; "
            "train them apart (--pack=off)"
        )
