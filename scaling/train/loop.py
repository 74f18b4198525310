"""The one training loop: a resolved config and a workdir in, a run directory out.

Reads top to bottom: restore or initialise, then call after call until the last step, with
evaluation, checkpoints and log lines at fixed steps. The loop never waits for the call that it just
dispatched: metrics are fetched one call late. `launch.py train` and every executor call `train`.
"""

import dataclasses
import math
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
import tensorboardX
from etils import epath

from scaling import data, ladder, optim, sharding
from scaling.config import RunConfig, run_name
from scaling.provenance import provenance
from scaling.records import RunDirectory
from scaling.train import state as state_lib
from scaling.train.checkpoint import Checkpoints
from scaling.train.evaluate import compile_rows, evaluate
from scaling.train.placement import host_rows, place
from scaling.train.progress import Progress
from scaling.train.step import compile_steps


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended."""

    status: Literal["done", "stopped", "diverged"]  # stopped: the same command goes on
    step: int  # updates made
    reason: str | None = None


class Diverged(Exception):
    """A loss or gradient that is not finite."""


def next_edge(step: int, config: RunConfig) -> int:
    """The step after which the call that starts at `step` must end.

    A pure function of the step, so that a run cut into two makes the same calls: edges are the
    multiples of steps_per_call, of every rhythm (evaluation, checkpoint), and the last step.
    """
    train = config.train
    rhythms = [train.steps_per_call, train.checkpoint_every, config.evals.every]
    edges = [(step // rhythm + 1) * rhythm for rhythm in rhythms if rhythm]
    assert train.steps is not None
    return min([*edges, train.steps])


def train(
    config: RunConfig,
    workdir: epath.PathLike,
    *,
    devices: Sequence[jax.Device] | None = None,
    stop: threading.Event | None = None,
    quiet: bool = False,
) -> Outcome:
    """Train a resolved run to its end, from wherever its run directory stands.

    Args:
      config: a resolved RunConfig.
      workdir: the run directory is <workdir>/runs/<run_name(config)>; gs:// works.
      devices: the devices of the mesh; None: all.
      stop: when set (by a signal handler), the state is saved and the outcome is "stopped".
      quiet: no progress on stderr.

    Raises UserError for what a person can mend: mesh, sizes, data, directory, lock.
    """
    run = RunDirectory.open(config, workdir)
    if (ended := run.status()).get("state") in ("done", "diverged"):
        return Outcome(ended["state"], ended["step"], ended.get("reason"))
    with run.lock():
        try:
            return _Run(config, run, devices, stop or threading.Event(), quiet).train()
        except Exception as error:
            if jax.process_index() == 0:
                run.write_status(
                    "failed", pid=os.getpid(), reason=f"{type(error).__name__}: {error}"
                )
            raise


class _Run:
    """One run in one process: the shell around the pure step."""

    def __init__(
        self,
        config: RunConfig,
        run: RunDirectory,
        devices: Sequence[jax.Device] | None,
        stop: threading.Event,
        quiet: bool,
    ):
        assert config.train.steps is not None
        self.config, self.run, self.stop, self.quiet = config, run, stop, quiet
        self.steps, self.size = config.train.steps, ladder.size(config)
        self.writes = jax.process_index() == 0
        self.tokens_per_step = config.train.batch_size * config.data.seq_len
        devices = devices if devices is not None else jax.devices()
        if self.writes:
            # First of all, so that a run that fails below can be repeated from its directory.
            kind = {"device_kind": devices[0].device_kind, "device_count": len(devices)}
            run.start(config, provenance() | kind, size=dataclasses.asdict(ladder.cost(config)))
        self.mesh = sharding.make_mesh(config.mesh, devices)
        self.pieces = state_lib.parts(config)
        self.plan = state_lib.layout(self.pieces, config, self.mesh)
        sharding.check_batch(config, self.mesh)
        self.batches = data.train_batches(config)
        self.eval_sets = {name: data.eval_batches(config, name) for name in config.evals.sets}

    def train(self) -> Outcome:
        config, run = self.config, self.run
        with Checkpoints(run.path / "checkpoints", config) as checkpoints:
            with sharding.context(self.mesh):
                state = checkpoints.restore(self.plan.abstract)
                if state is None:
                    state = state_lib.init(self.pieces, config, self.plan)
                first = int(jax.device_get(state.step))
                if self.writes:
                    # From nothing: what an earlier start wrote is computed again, from line
                    # one.
                    run.truncate(first if first else -1)
                self.progress = Progress(run_name(config), first, self.steps, self.quiet)
                for row in sharding.check(self.plan.boxed, self.plan.shardings, self.mesh):
                    if row.warning:
                        self.progress.say(f"WARNING: {row.warning}")
                try:
                    outcome = self._loop(state, first, checkpoints)
                except Diverged as problem:
                    outcome = Outcome("diverged", self.step, str(problem))
                finally:
                    self.progress.close()
            checkpoints.wait()
            if self.writes:
                reason = {"reason": outcome.reason} if outcome.reason else {}
                run.write_status(
                    outcome.status, step=outcome.step, steps=self.steps, pid=os.getpid(), **reason
                )
            self.progress.say(f"{outcome.status} at step {outcome.step}")
            return outcome

    def _loop(self, state: state_lib.TrainState, first: int, checkpoints: Checkpoints) -> Outcome:
        config = self.config
        run_steps = compile_steps(self.pieces, config, self.plan)
        rows_of = compile_rows(self.pieces, self.plan)
        hparams = place(optim.hparams(config), sharding.replicated(self.mesh))
        events = self._events(first)
        self.step, self.pending, self.clock = first, None, (time.monotonic(), first)
        self._status_time = 0.0
        stream = self.batches.stream(first, self.steps, host_rows(config.train.batch_size))
        while self.step < self.steps:
            self._profile()
            edge = next_edge(self.step, config)
            batches_K, count = self._stack(stream, edge - self.step)
            with jax.transfer_guard("disallow"):
                state, metrics_K = run_steps(state, batches_K, count, hparams)
            self._drain(events)
            self.pending, self.step = (self.step, edge, metrics_K), edge
            evaluates = edge == self.steps or _due(edge, config.evals.every)
            stops = self.stop.is_set() and edge < self.steps
            saves = edge == self.steps or _due(edge, config.train.checkpoint_every) or stops
            if evaluates or saves:
                # What a checkpoint's step implies must be on disk before the checkpoint is.
                self._drain(events)
            if evaluates:
                self._evaluate(rows_of, state, events)
            if saves:
                checkpoints.save(edge, state)
            if stops:
                return Outcome("stopped", edge, "told to stop; the same command goes on from here")
        if events is not None:
            events.close()
        return Outcome("done", self.step)

    def _stack(self, stream: Any, count: int) -> tuple[Any, jax.Array]:
        """`count` batches stacked to [K, ...] on the device, and the count there too."""
        taken = [next(stream)[1] for _ in range(count)]
        taken += taken[-1:] * (self.config.train.steps_per_call - count)
        rows = sharding.batch_sharding(self.mesh)
        stacked = jax.sharding.NamedSharding(
            self.mesh, jax.sharding.PartitionSpec(None, *rows.spec)
        )
        batches = place({k: np.stack([b[k] for b in taken]) for k in taken[0]}, stacked)
        return batches, place(np.int32(count), sharding.replicated(self.mesh))

    def _drain(self, events: Any) -> None:
        """Fetch the metrics of the call before, log what is due, and stop at what is not finite."""
        if self.pending is None:
            return
        (start, edge, metrics_K), self.pending = self.pending, None
        fetched = jax.device_get(metrics_K)
        lines: list[dict[str, Any]] = []
        for i, step in enumerate(range(start + 1, edge + 1)):
            metrics = {name: float(values[i]) for name, values in fetched.items()}
            bad = [k for k in ("loss", "grad_norm") if not math.isfinite(metrics[k])]
            if bad:
                self.step = step - 1
                self._record(lines, events)
                raise Diverged(f"{bad[0]} is {metrics[bad[0]]} in step {step}")
            if _due(step, self.config.train.log_every) or step == self.steps:
                lines.append(self._train_line(step, metrics))
        self._record(lines, events)
        if lines:
            self._show(lines[-1])

    def _train_line(self, step: int, metrics: dict[str, float]) -> dict[str, Any]:
        now, (then, at) = time.monotonic(), self.clock
        seconds = (now - then) / max(step - at, 1)
        self.clock = (now, step) if step > at else self.clock
        rate = self.tokens_per_step / max(seconds, 1e-9)
        clock = {"time/step_s": seconds, "time/tokens_per_s": rate, "time/mfu": self._mfu(rate)}
        tokens = step * self.tokens_per_step
        return {"step": step, "split": "train", **metrics, "tokens": tokens, **clock}

    def _mfu(self, tokens_per_s: float) -> float | None:
        peak = 1e11
        return self.size.flops_per_token * tokens_per_s / (peak * self.mesh.size) if peak else None

    def _evaluate(self, rows_of: Any, state: state_lib.TrainState, events: Any) -> None:
        params = state.params if state.ema is None else state.ema
        started = time.monotonic()
        lines: list[dict[str, Any]] = [
            {"step": self.step, "split": name, **evaluate(rows_of, params, batches, self.mesh)}
            for name, batches in self.eval_sets.items()
        ]
        for line in lines:
            if not math.isfinite(line["loss"]):
                raise Diverged(f"loss on {line['split']} is {line['loss']} after step {self.step}")
        self._record(lines, events)
        losses = "  ".join(f"{line['split']} {line['loss']:.4f}" for line in lines)
        self.progress.say(f"step {self.step}/{self.steps}  evaluated: {losses}")
        then, at = self.clock  # evaluation is not training time
        self.clock = (then + time.monotonic() - started, at)

    def _record(self, lines: list[dict[str, Any]], events: Any) -> None:
        if not self.writes or not lines:
            return
        self.run.append(*lines)
        for line in lines:
            for name, value in line.items():
                if isinstance(value, int | float) and name != "step":
                    events.add_scalar(f"{line['split']}/{name}", value, line["step"])

    def _show(self, line: dict[str, Any]) -> None:
        rate = 1 / max(line["time/step_s"], 1e-9)
        self.progress.update(line["step"], line["loss"], rate, line["time/mfu"])
        if self.writes and time.monotonic() - self._status_time > 1.0:
            self._status_time = time.monotonic()
            self.run.write_status(
                "running",
                step=line["step"],
                steps=self.steps,
                pid=os.getpid(),
                loss=line["loss"],
                rate=rate,
                eta=(self.steps - line["step"]) / rate,
                mfu=line["time/mfu"],
            )

    def _events(self, first: int) -> Any:
        """TensorBoard events; what an earlier process wrote past the restored step is hidden."""
        if not self.writes:
            return None
        return tensorboardX.SummaryWriter(
            str(self.run.path / "tensorboard"), purge_step=first + 1 if first else None
        )

    def _profile(self) -> None:
        start = self.config.train.profile_start
        if start is None:
            return
        if self.step == start:
            jax.profiler.start_trace(str(self.run.path / "profile"))
            self._tracing = True
        elif self.step >= start + self.config.train.profile_steps and getattr(
            self, "_tracing", False
        ):
            jax.profiler.stop_trace()
            self._tracing = False


def _due(step: int, every: int | None) -> bool:
    return bool(every) and step % every == 0  # type: ignore[operator]
