"""The stop-watch of a run: what its steps, its compilation and its evaluations took.

Fed by the recorder, which knows when each of them ended; gives the `timing.Cost` of the run. A run
that goes back on a spike has a new recorder and the same stop-watch.
"""

import time
from typing import Any

import jax

from scaling.config import RunConfig
from scaling.costs import sizes
from scaling.devices import peaks, power
from scaling.records import timing
from scaling.train.compilation import Compiled


class Meter:
    """Adds up seconds; nothing here is read from a file or written to one."""

    def __init__(
        self, config: RunConfig, mesh: jax.sharding.Mesh, begun: float, *, members: int = 1
    ):
        """
        Args:
          config: resolved.
          mesh: that the run is trained on.
          begun: when work on the run began, by `time.monotonic`.
          members: runs that the program trains at once.
        """
        self._begun, self._members = begun, members
        self._device, self.devices = mesh.devices.flat[0], mesh.size
        peak = peaks.peak_flops(self._device, config.model.dtype)
        self.peak = peak * mesh.size if peak else None  # FLOP/s of all devices, as far as known
        self._program: Compiled | None = None
        self._windows: list[tuple[int, float]] = []  # updates, seconds
        self._evaluations, self._evaluating, self._waited = 0, 0.0, 0.0
        self._name = timing.program(config)
        self._flops = sizes.step_flops(config)  # of a step of one member
        own = [d for d in mesh.devices.flat if d.process_index == jax.process_index()]
        self._power = power.meter(self._device.platform, [d.local_hardware_id or 0 for d in own])
        # What is counted here, over all processes alike, and shared by the members.
        self._of_run = mesh.size / max(len(own), 1) / members

    def compiled(self, program: Compiled) -> float:
        """The program of the steps; gives the seconds it took to compile, once."""
        seconds = 0.0 if self._program is program else program.seconds
        self._program = program
        return seconds

    def stepped(self, steps: int, seconds: float) -> None:
        """So many updates took so long."""
        self._windows.append((steps, seconds))

    def evaluated(self, seconds: float) -> None:
        """Every evaluation set, once, of all runs of the program."""
        self._evaluations, self._evaluating = self._evaluations + 1, self._evaluating + seconds

    def waited(self, seconds: float) -> None:
        """For an evaluation, of this run or of others beside it."""
        self._waited += seconds

    def drawn(self) -> dict[str, Any]:
        """Joules of this run since the last call, and by whom, as `write_status` takes them; of a
        machine without a meter, nothing.
        """
        if self._power is None:
            return {}
        return {"joules": self._of_run * self._power.drawn(), "joules_by": self._power.by}

    def cost(self) -> timing.Cost | None:
        """Of the run so far; None before the first update."""
        if self._program is None or not self._windows:
            return None
        # The first window also fills the pipeline of batches: it counts if there is no other.
        windows = self._windows[1:] or self._windows
        steps = sum(n for n, _ in windows)
        step_s = sum(seconds for _, seconds in windows) / max(steps, 1)
        spent = sum(seconds for _, seconds in self._windows)
        spent += self._waited + self._program.seconds
        rate = self._flops * self._members / max(step_s, 1e-9)
        return timing.Cost(
            program=self._name,
            device_kind=self._device.device_kind,
            devices=self.devices,
            cores=timing.cores_here(self._device.platform),
            members=self._members,
            steps=steps,
            step_s=step_s,
            compile_s=self._program.seconds,
            eval_s=self._evaluating / self._evaluations if self._evaluations else None,
            other_s=max(0.0, time.monotonic() - self._begun - spent),
            device_bytes=self._program.device_bytes,
            flops_per_step=self._flops,
            mfu=rate / self.peak if self.peak else None,
        )
