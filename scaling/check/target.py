"""The devices that a run is compiled for: those here, virtual CPU devices, or TPUs that are not.

Takes what the flags say; gives a `Target`. The TPU compiler (`jax[tpu]`, the extra `tpu`) works on
a machine without a TPU; `prepare` must then have been called before jax touches a device. Called by
`scaling/commands` and by tests.
"""

import importlib.util
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scaling.devices import chips
from scaling.devices.slices import Slice, find
from scaling.errors import UserError

# The TPU library looks for a TPU, asks the machine's metadata server about it, and lets one process
# of a machine load it; a compiler needs none of that.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v4-8",  # any: it is only asked for when there is a TPU
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}


@dataclass(frozen=True)
class Target:
    """Devices, and what is known of them."""

    name: str  # "v5e:16x16", "4 x v5e:16x16", "8 x cpu"
    devices: Sequence[Any]  # of every slice, one slice after the other
    chip: chips.Chip | None  # None: not in the table (a CPU)
    shape: tuple[int, ...] = ()  # of a slice's torus; () when there is none
    slices: int = 1
    hbm_bytes: float | None = None  # a device may use; None: not limited by number

    def coordinates(self, device: Any) -> tuple[int, ...]:
        """Where a device is: its slice (or GPU host), then its place in the torus."""
        if self.shape:
            return (getattr(device, "slice_index", 0), *device.coords[: len(self.shape)])
        return (device.process_index, 0)


def prepare(topology: str | None) -> Slice | None:
    """What must happen before jax touches a device: the environment of the TPU compiler.

    Raises ConfigError for a slice that there is not, UserError without the TPU compiler.
    """
    if topology is None:
        return None
    found = find(topology)
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            f"--topology={topology} needs the TPU compiler, which is not installed here; no TPU is "
            "needed: pip install '.[tpu]', best in an environment of its own"
        )
    os.environ.update(_ENVIRONMENT)
    import jax

    jax.config.update("jax_platforms", "cpu")  # in case the environment was read before
    return found


def of_topology(topology: Slice, slices: int, hbm_bytes: float | None = None) -> Target:
    """Slices of TPUs that are not here."""
    from jax.experimental import topologies

    options: dict[str, Any] = {"num_slices": slices} if slices > 1 else {}
    if topology.chip.name == "v4":
        options["chip_config_name"] = "megacore"  # one device a chip; by default it is two
    if topology.chips == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    found = topologies.get_topology_desc(topology.name, platform="tpu", **options)
    devices = sorted(found.devices, key=lambda d: getattr(d, "slice_index", 0))
    expected = slices * math.prod(topology.shape)
    if len(devices) != expected:
        raise UserError(
            f"--topology={topology.name} --slices={slices}: the TPU compiler counts {len(devices)} "
            f"devices, the table of chips {expected}"
        )
    name = topology.name if slices == 1 else f"{slices} x {topology.name}"
    hbm_bytes = hbm_bytes or topology.chip.hbm_bytes
    return Target(name, devices, topology.chip, topology.shape, slices, hbm_bytes)


def of_devices(devices: Sequence[Any] | None = None, hbm_bytes: float | None = None) -> Target:
    """Devices at hand (default: all of them)."""
    import jax

    devices = list(jax.devices() if devices is None else devices)
    chip = chips.of_device(devices[0].device_kind)
    limit = hbm_bytes or chips.memory_bytes(devices[0])
    name = f"{len(devices)} x {devices[0].device_kind}"
    hosts = len({d.process_index for d in devices})
    shape: tuple[int, ...] = ()
    if chip is not None and chip.is_tpu:
        shape = tuple(max(d.coords[i] for d in devices) + 1 for i in range(chip.dimensions))
    slices = len({getattr(d, "slice_index", 0) for d in devices}) if shape else hosts
    return Target(name, devices, chip, shape, slices, limit)
