"""Meters of energy that a machine has: what its GPUs, or its processors, have drawn.

NVIDIA's driver counts the millijoules of a GPU (nvmlDeviceGetTotalEnergyConsumption, from Volta on;
through the package nvidia-ml-py, where it is installed), Linux the microjoules of a processor
package (RAPL, /sys/class/powercap). Of a machine without either nothing is measured. No jax in
this file. Called by the run's stop-watch.
"""

import contextlib
import importlib
import os
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

RAPL = pathlib.Path("/sys/class/powercap")


@dataclass
class Meter:
    """Counts joules from the moment it is made."""

    by: str  # who counts
    read: Callable[[], list[tuple[float, float]]]  # joules of each counter, and where it wraps
    share: float = 1.0  # of what is counted, that is this process's
    _last: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begins to count."""
        self._last = [now for now, _ in self.read()]

    def drawn(self) -> float:
        """Joules since the last call, or since the meter was made."""
        found = self.read()
        # A counter that went back has wrapped once: it is read more often than it wraps.
        steps = [now - then if now >= then else now - then + most
                 for (now, most), then in zip(found, self._last, strict=True)]  # fmt: skip
        self._last = [now for now, _ in found]
        return self.share * sum(steps)


def meter(platform: str, local: Sequence[int], root: pathlib.Path = RAPL) -> Meter | None:
    """What this machine counts with, of the devices of a platform ("cpu", "gpu"); None: nothing.

    local: of GPUs, the driver's numbers of those that are this process's.
    """
    return (
        _nvml(local) if platform in ("gpu", "cuda") else _rapl(root) if platform == "cpu" else None
    )


def _rapl(root: pathlib.Path) -> Meter | None:
    """Processor packages, of which this process has the share of its cores."""
    packages = [p for p in sorted(root.glob("intel-rapl:*")) if p.name.count(":") == 1]

    def read() -> list[tuple[float, float]]:
        values = [[float((p / n).read_text()) / 1e6 for n in ("energy_uj", "max_energy_range_uj")]
                  for p in packages]  # fmt: skip
        return [(now, most) for now, most in values]

    with contextlib.suppress(OSError, ValueError):  # since 2020 only root may read them
        if packages:
            share = len(os.sched_getaffinity(0)) / (os.cpu_count() or 1)
            return Meter("RAPL, by the share of cores", read, share)
    return None


def _nvml(local: Sequence[int]) -> Meter | None:
    """GPUs of this process."""
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in local]

        def read() -> list[tuple[float, float]]:
            return [(nvml.nvmlDeviceGetTotalEnergyConsumption(h) / 1e3, 0.0) for h in handles]

        return Meter("NVML", read) if handles else None
    except Exception:  # no package, no driver, a card that does not count: nothing is measured
        return None
