"""Everything a run tells the outside while it trains: metrics.jsonl, TensorBoard, status, progress.

The loop hands it lines; process 0 writes them. Wall-clock numbers are named `time/...`, so that two
runs compare without them. `time/mfu` is model FLOPs utilization (Chowdhery et al. 2022, appendix
B): the FLOPs of every matmul of the model, attention in full, recomputation by remat not counted
(`sizes.size`), a second, over the peak of all devices in the run's dtype (`peaks.peak_flops`).
"""

import contextlib
import dataclasses
import math
import time
from typing import Any

from scaling import files
from scaling.config import RunConfig, amounts, choices
from scaling.costs import sizes
from scaling.records import RunDirectory, State, timing
from scaling.train.compilation import Compiled
from scaling.train.events import Events
from scaling.train.meter import Meter
from scaling.train.progress import Progress
from scaling.train.rhythm import Due

# Seconds that lines are held back where each write replaces a whole object, which a store allows
# about once a second and object.
_HOLD = 15.0


class Recorder:
    """Where the lines of one run go; `close` it."""

    def __init__(
        self,
        config: RunConfig,
        run: RunDirectory,
        first: int,
        meter: Meter,
        *,
        writes: bool,
        progress: Progress,
        status_every: float = 1.0,
    ):
        """
        Args:
          config: resolved.
          run: its directory.
          first: the step that the run goes on from.
          meter: of the run.
          writes: whether this process is the one that writes files.
          progress: what a person sees; stays open.
          status_every: seconds between writes of status.json.
        """
        self._run, self._writes, self._meter = run, writes, meter
        self._steps = amounts.resolved(config.train.steps)
        self._unit, self._units_per_step = config.data.unit, amounts.units_per_step(config)
        self._flops_per_step = sizes.step_flops(config)
        self._progress = progress
        self._measure = choices.objective(config.objective).metrics["loss"].label
        progress.begin(first, self._measure)
        self._clock, self._clock_step = time.monotonic(), first
        self._hold = 0.0 if files.is_local(run.path) else _HOLD
        self._status_every, self._status_written = max(status_every, self._hold), -math.inf
        self._lines: list[dict[str, Any]] = []  # not yet written
        self._hashes: list[tuple[int, Any]] = []
        self._flushed = time.monotonic()
        self._facts: dict[str, Any] = {}  # of the last line, for the status
        self._validated: tuple[int, float | None] = -1, None  # step, loss
        self._events = None
        if writes:
            # Events that an earlier process wrote past the restored step are hidden by the purge.
            self._events = Events(run.path / "tensorboard", first + 1 if first else None)

    def train_lines(self, due: Due) -> None:
        """What a call of the step leaves to be written."""
        lines = due.lines
        if not lines:
            return
        self._hashes += due.hashes if self._writes else []
        last, now = lines[-1][0], time.monotonic()
        step_s = max((now - self._clock) / max(last - self._clock_step, 1), 1e-9)
        self._meter.stepped(last - self._clock_step, now - self._clock)
        self._clock, self._clock_step = now, last
        units_per_s, mfu = self._units_per_step / step_s, None
        if self._meter.peak:
            mfu = self._flops_per_step / step_s / self._meter.peak
        clock = {
            "time/step_s": step_s,
            f"time/{self._unit}s_per_s": units_per_s,
            f"time/{self._unit}s_per_s_device": units_per_s / self._meter.devices,
            "time/mfu": mfu,
        }
        amount = f"{self._unit}s"
        self._write(
            [
                {"step": s, "split": "train", **m, amount: s * self._units_per_step, **clock}
                for s, m in lines
            ]
        )
        loss = lines[-1][1]["loss"]
        self._progress.update(last, loss, 1 / step_s, mfu)
        eta = (self._steps - last) * step_s
        self._facts = {"loss": loss, "rate": 1 / step_s, "eta": eta, "mfu": mfu}
        if now - self._status_written >= self._status_every:
            self._status_written = now
            cost = self._meter.cost()
            self.status("running", last, cost=None if cost is None else dataclasses.asdict(cost))

    def evaluation(
        self,
        step: int,
        means: dict[str, dict[str, float]],
        seconds: float,
        whole: float | None = None,
    ) -> None:
        """Means of every evaluation set after `step` updates, how long they took, and how long they
        would have taken for all runs of the program; None: as long.
        """
        self._write([{"step": step, "split": name, **m} for name, m in means.items()])
        losses = {name: m["loss"] for name, m in means.items() if "loss" in m}
        self._progress.evaluated(step, losses)
        self._validated = step, losses.get("val")
        self.flush()
        self._meter.evaluated(seconds if whole is None else whole)
        self.waited(seconds)

    def waited(self, seconds: float) -> None:
        """So long nothing was trained: an evaluation, also of others in the same program."""
        self._clock += seconds
        self._meter.waited(seconds)

    def watched(self, step: int, values: dict[str, float]) -> None:
        """What an update does inside the model (`watch.py`), before the update's own line."""
        self._write([{"step": step, "split": "watch", **values}])

    def paused(self, seconds: float) -> None:
        """So long a call was compiled that is no training."""
        self._clock += seconds

    def compiled(self, program: Compiled) -> None:
        """The program of the steps, after a call: its compilation is not training time either."""
        self._clock += self._meter.compiled(program)
        self._progress.compiled()

    def status(self, state: State, step: int, **fields: Any) -> None:
        """Replace status.json, with what is known of the speed and the loss."""
        if self._writes:
            self.flush()
            facts = self._facts | self._meter.drawn() | fields
            self._run.write_status(state, step=step, steps=self._steps, **facts)

    def ended(self, how: str, step: int) -> str:
        """ "done at step 500, validation loss 1.3412": the last word on the run."""
        at, loss = self._validated
        if at != step or loss is None:
            return f"{how} at step {step}"
        return f"{how} at step {step}, validation {self._measure} {loss:.4f}"

    def say(self, text: str) -> None:
        """A line for the person who watches."""
        self._progress.say(text)

    def close(self) -> None:
        """Keep what the run took, and flush TensorBoard; where one of them fails, the other is
        done.
        """
        events, self._events = self._events, None
        with contextlib.ExitStack() as last:
            if events is not None:
                last.callback(events.close)
            self.flush()
            cost = self._meter.cost()
            if self._writes and cost is not None:
                timing.write(cost, self._run)

    def flush(self) -> None:
        """Put down what was held back. Before a checkpoint is saved: it implies its lines."""
        self._flushed = time.monotonic()
        if self._writes:
            # Else, where a folder is taken away, a hollow one would grow in its place.
            files.must_exist(self._run.path / "config.json")
        lines, self._lines = self._lines, []
        if lines:
            self._run.append(*lines)
        hashes, self._hashes = self._hashes, []
        for step, of_step in hashes:
            self._run.append_hashes(step, of_step)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        if self._events is None:
            return
        self._lines += lines
        self._events.add(lines)
        if time.monotonic() - self._flushed >= self._hold:
            self.flush()
