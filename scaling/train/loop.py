"""The one training loop: a resolved config and a workdir in, a run directory out.

Reads top to bottom: restore or initialise, then call after call until the last step, with
evaluation, checkpoints and log lines at fixed steps. The loop never waits for the call that it just
dispatched: metrics are fetched one call late. `launch.py train` and every executor call `train`.
"""

import contextlib
import functools
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from etils import epath

from scaling import data, files
from scaling.config import RunConfig, amounts, programs, run_name
from scaling.config.provenance import provenance
from scaling.costs import counts
from scaling.costs.counted import slow_loops
from scaling.devices import distributed, meshes, sharding, xla_flags
from scaling.errors import StorageError, UserError
from scaling.records import RunDirectory, State
from scaling.studies import study
from scaling.train import begins, fingerprints, storage
from scaling.train import state as state_lib
from scaling.train.branch import begin
from scaling.train.checkpoint import Checkpoints
from scaling.train.compilation import Compiled, no_transfers
from scaling.train.evaluate import Evaluator
from scaling.train.meter import Meter
from scaling.train.placement import host_rows, place, place_rows
from scaling.train.progress import Progress
from scaling.train.recorder import Recorder
from scaling.train.rhythm import (
    Diverged,
    check_means,
    due_lines,
    evaluates,
    evaluates_start,
    next_edge,
    saves,
    trace,
    watches,
)
from scaling.train.spikes import Spike, Spikes
from scaling.train.state import TrainState
from scaling.train.step import compile_steps
from scaling.train.watch import Watch

TOLD = "told to stop; the same command goes on from here"
PAUSED = "paused, as was asked; train --run goes on from here"


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended."""

    status: Literal["done", "stopped", "diverged"]  # stopped: the same command goes on
    step: int  # updates made
    reason: str | None = None


def train(
    config: RunConfig,
    workdir: epath.PathLike,
    *,
    devices: Sequence[jax.Device] | None = None,
    stop: threading.Event | None = None,
    quiet: bool = False,
    branches: Mapping[int, Sequence[RunConfig]] | None = None,
    pause: int | None = None,
) -> Outcome:
    """Train a resolved run to its end, from wherever its run directory stands.

    Args:
      config: a resolved RunConfig.
      workdir: the run directory is <workdir>/runs/<run_name(config)>; gs:// works.
      devices: the devices of the mesh; None: all.
      stop: when set (by a signal handler), the state is saved and the outcome is "stopped".
      quiet: no progress on stderr.
      branches: runs that begin from this one's state, under the number of updates they share.
      pause: updates after which the state is evaluated and saved and the outcome is "stopped";
        None: none.

    Raises UserError for what a person can mend: mesh, sizes, data, directory, lock. The reason of
    whatever is raised is in status.json first.
    """
    run, first = RunDirectory.open(config, workdir), jax.process_index() == 0
    ended = distributed.gather(run.status())[0]  # as process 0 sees it
    if ended.get("state") in ("done", "diverged"):
        return Outcome(ended["state"], ended["step"], ended.get("reason"))
    with contextlib.ExitStack() as held:
        # One process writes: the others of the run share its directory, not its lock.
        try:
            with distributed.together():
                if first:
                    held.enter_context(run.lock())
                    for text in run.mend():
                        print(f"{run.path.name}: {text}", file=sys.stderr, flush=True)
        except (StorageError, OSError) as error:
            raise storage.explained(error, run) from error
        try:
            steps, silent = amounts.resolved(config.train.steps), quiet or not first
            progress = held.enter_context(Progress(run_name(config), steps, silent))
            how = (devices, stop or threading.Event(), progress, branches or {}, pause)
            with distributed.together():
                work = _Run(config, run, *how)
            with distributed.together():
                check_shared(run)
            return work.train()
        except Exception as error:
            problem = storage.explained(error, run)
            if first:
                state: State = "stopped" if distributed.peer_lost(error) else "failed"
                storage.write_end(run, state, problem)
            if problem is error:
                raise
        # Not from `error`, with which all that orbax was about to write would live on.
        raise problem


def check_shared(run: RunDirectory) -> None:
    """Raise UserError unless this process sees the directory that process 0 has begun."""
    until = time.monotonic() + 60  # network file systems remember for a while what was not there
    while not (run.path / "config.json").exists():
        if time.monotonic() > until:
            raise UserError(
                f"{run.path} is not there on {socket.gethostname()}, though process 0 has made it; "
                "give a --workdir on a file system that all hosts share"
            )
        time.sleep(0.5)


def start_directory(
    run: RunDirectory, config: RunConfig, device_kind: str, devices: int, members: int = 1
) -> None:
    """`config.json`, with the devices that the run is trained on and the members of its group,
    before step 0.
    """
    made_by = _made_by(device_kind, devices) | ({"members": members} if members > 1 else {})
    run.start(config, made_by, study.size(config))


def _made_by(device_kind: str, devices: int) -> dict[str, Any]:
    return provenance() | {"device_kind": device_kind, "device_count": devices}


def unevaluated(config: RunConfig, run: RunDirectory) -> bool:
    """Whether the last state's evaluation is not written, as process 0 sees it."""
    there = {line["split"] for line in run.metrics() if line["step"] == config.train.steps}
    return distributed.gather(not there >= set(config.evals.sets))[0]


class _Run:
    """One run in one process: the shell around the pure step."""

    def __init__(
        self,
        config: RunConfig,
        run: RunDirectory,
        devices: Sequence[jax.Device] | None,
        stop: threading.Event,
        progress: Progress,
        branches: Mapping[int, Sequence[RunConfig]],
        pause: int | None,
    ):
        begun = time.monotonic()
        self.config, self.run, self.stop, self.progress = config, run, stop, progress
        self.branches = branches
        self.steps = amounts.resolved(config.train.steps)
        self.last = self.steps if pause is None else min(self.steps, pause)
        self.writes = jax.process_index() == 0
        devices = devices if devices is not None else jax.devices()
        if self.writes:
            # First of all, so that a run that fails below can be repeated from its directory.
            start_directory(run, config, devices[0].device_kind, len(devices))
        if config.train.profile_start is not None and not files.is_local(run.path):
            raise UserError(
                f"train.profile_start={config.train.profile_start}: the profiler writes to a local "
                "--workdir only; leave it unset, or train this run in a local one"
            )
        self.mesh = meshes.make_mesh(config.mesh, devices)
        meshes.check_batch(config, self.mesh)
        self.meter = Meter(config, self.mesh, begun)
        self.rows = host_rows(config.train.batch_size, self.mesh)
        self.pieces = state_lib.parts(config)
        self.plan = state_lib.layout(self.pieces, config, self.mesh)
        like = self.plan.abstract
        shapes = counts.batch_shapes(config)
        self.hashed = fingerprints.names(like.params, like.opt_state, like.ema, shapes)
        self.batches = data.train_batches(config)
        self.spikes = Spikes(config, distributed.gather(run.spikes())[0])
        self.tracing = False
        self.evaluator = Evaluator(config, self.pieces, self.plan)

    def train(self) -> Outcome:
        config = self.config
        with (
            Checkpoints(self.run.path / "checkpoints", config) as checkpoints,
            sharding.context(self.mesh),
        ):
            if self.writes:
                checkpoints.clean()
            while (outcome := self._go_on(checkpoints)) is None:
                pass  # back to before a spike
            return outcome

    def _go_on(self, checkpoints: Checkpoints) -> Outcome | None:
        """Train from the newest state; None when a spike was gone back on."""
        config = self.config
        state = checkpoints.restore(self.plan.abstract)
        if state is None:
            state = state_lib.init(self.pieces, config, self.plan)
            state = begins.begin(state, config, self.plan, self.run.path.parent)
        first = int(jax.device_get(state.step))
        self.spikes.begin(checkpoints.losses(first))
        if self.writes:
            # From nothing, what an earlier start wrote is computed again from line one.
            self.run.truncate(first or -1)
            self.run.went_on(first)
        recorder = Recorder(
            config, self.run, first, self.meter, writes=self.writes, progress=self.progress
        )
        try:
            recorder.status("running", first)
            self._announce(recorder)
            outcome = self._loop(state, first, checkpoints, recorder)
        except Spike as spike:
            recorder.say(f"{spike}; back to step {spike.record['back_to']}")
            self._go_back(spike, checkpoints)
            return None
        except Diverged as problem:
            outcome = Outcome("diverged", problem.step, problem.reason(self.run.path))
        finally:
            self._stop_trace()
            recorder.close()
        checkpoints.wait()  # a run is done when its last state is on disk
        reason = {"reason": outcome.reason} if outcome.reason else {}
        recorder.status(outcome.status, outcome.step, **reason)
        recorder.say(recorder.ended(outcome.status, outcome.step))
        return outcome

    def _go_back(self, spike: Spike, checkpoints: Checkpoints) -> None:
        """First no state that has seen the spike, then the line: a kill between the two means that
        the spike is met again.
        """
        checkpoints.drop_after(spike.record["back_to"])
        if self.writes:
            self.run.add_spike(spike.record)
        self.spikes.add(spike.record)

    def _announce(self, recorder: Recorder) -> None:
        preset = self.config.train.xla_flags
        if preset != "none":
            recorder.say(xla_flags.text(preset, self.mesh.devices.flat[0].platform))
        if slow := slow_loops(self.config, self.mesh.devices.flat[0].platform):
            recorder.say(f"WARNING: {slow}")
        for row in sharding.check(self.plan.boxed, self.plan.shardings, self.mesh):
            if row.warning:
                recorder.say(f"WARNING: {row.warning}")

    def _loop(
        self, state: TrainState, first: int, checkpoints: Checkpoints, recorder: Recorder
    ) -> Outcome:
        config = self.config
        run_steps = self._program
        hparams = place(programs.hparams(config), sharding.replicated(self.mesh))
        ended = first == self.steps and unevaluated(config, self.run)
        if ended or evaluates_start(first, config):
            self._evaluate(first, state, recorder)
        if self.last <= first < self.steps:
            return Outcome("stopped", first, PAUSED)
        stream = self.spikes.stream(self.batches, first, self.last, self.rows, self._edge)
        vote = distributed.StopVote(self.stop, self.mesh)
        pending: tuple[int, int, Any, Any] | None = None
        for start, group in stream:
            edge = self._edge(start)
            self._profile(start)
            batches_K, count = self._to_device(group, edge - start)
            watched = self._watch_update(start + 1, state, batches_K, hparams, recorder)
            with no_transfers():
                state, metrics_K = run_steps(state, batches_K, count, hparams)
            recorder.compiled(run_steps)
            vote.cast()
            checkpoints.check()
            self._drain(pending, recorder)
            pending = (start, edge, metrics_K, watched)

            pauses = edge == self.last < self.steps
            told = edge < self.steps and vote.passed()
            stops, due = pauses or told, pauses or evaluates(edge, config)
            if due or saves(edge, config) or stops or edge in self.branches:
                # What a checkpoint's step implies must be on disk before the checkpoint is.
                self._drain(pending, recorder)
                pending = None
            if due:
                self._evaluate(edge, state, recorder)
            if edge in self.branches:
                recorder.flush()  # a branch begins with the lines so far
                self._begin_branches(edge, state)
            if saves(edge, config) or stops:
                recorder.flush()
                checkpoints.save(edge, state, self.spikes.losses)
            if stops:
                return Outcome("stopped", edge, PAUSED if pauses else TOLD)
        self._profile(self.steps)
        return Outcome("done", self.steps)

    @functools.cached_property
    def _program(self) -> Compiled:
        """The step, compiled once, however often the run goes back."""
        return Compiled(compile_steps(self.pieces, self.config, self.plan))

    def _edge(self, step: int) -> int:
        return next_edge(step, self.config, (*self.branches, self.last))

    def _begin_branches(self, step: int, state: TrainState) -> None:
        for config in self.branches[step]:
            size = study.size(config)
            made_by = _made_by(self.mesh.devices.flat[0].device_kind, self.mesh.size)
            begin(config, self.run, state, step, made_by, size)

    def _to_device(self, group: dict[str, np.ndarray], count: int) -> tuple[Any, jax.Array]:
        """`count` stacked batches as [K, ...] on the mesh, K = steps_per_call, and the count."""
        missing = self.config.train.steps_per_call - count
        if missing:
            group = {k: np.concatenate([v, v[-1:].repeat(missing, 0)]) for k, v in group.items()}
        stacked, size = sharding.stacked_batch_sharding(self.mesh), self.config.train.batch_size
        batches_K = place_rows(group, stacked, self.rows, size, axis=1)
        return batches_K, place(np.int32(count), sharding.replicated(self.mesh))

    @functools.cached_property
    def _watch(self) -> Watch:
        return Watch(self.pieces, self.config, self.plan)

    def _watch_update(
        self, step: int, state: TrainState, batches_K: Any, hparams: Any, recorder: Recorder
    ) -> jax.Array | None:
        """What the update number `step`, the first of the batches, is about to do; None: nobody
        asked.
        """
        if not watches(step, self.config):
            return None
        before = self._watch.seconds
        values = self._watch(state, batches_K, hparams)
        recorder.paused(self._watch.seconds - before)
        return values

    def _drain(self, pending: tuple[int, int, Any, Any] | None, recorder: Recorder) -> None:
        """Fetch the metrics of an earlier call, log what is due, stop at what is not finite."""
        if pending is None:
            return
        start, edge, metrics_K, watched = pending
        fetched = jax.device_get(metrics_K)
        self.spikes.look(start, fetched["loss"][: edge - start])
        if watched is not None:
            recorder.watched(start + 1, self._watch.named(jax.device_get(watched)))
        due = due_lines(start, edge, fetched, self.config, self.hashed)
        recorder.train_lines(due)
        if due.problem is not None:
            raise due.problem

    def _evaluate(self, step: int, state: TrainState, recorder: Recorder) -> None:
        params = state.evaluated
        started = time.monotonic()
        means = self.evaluator(params)
        check_means(step, means)
        recorder.evaluation(step, means, time.monotonic() - started)

    def _profile(self, step: int) -> None:
        """Start or stop the profiler's trace of process 0, in `<run directory>/profile`."""
        ends = trace(self.config) if self.writes else None
        if ends and step == ends[0]:
            jax.profiler.start_trace(str(self.run.path / "profile"))
            self.tracing = True
        elif ends and step == ends[1]:
            self._stop_trace()

    def _stop_trace(self) -> None:
        """However the steps ended: a process has one profiler, which the next run may want."""
        if self.tracing:
            self.tracing = False
            jax.profiler.stop_trace()
