"""Which runs of a sweep have room on the devices at all; the others are refused before they begin.

`refused` takes resolved runs and the devices of one of them here, and compares
`memory.estimate_bytes` with what a device has; `pods/admission.py` knows the slices of a pod. A run
that one of them turns away is `refuse`d: it gets a directory that says so, with the numbers, like
any run that failed: in `status`, in the table and in the report. `check` compares the same for one
run and writes nothing. Called by `launch.py sweep` and `train`.
"""

import pathlib
import re
import resource
from collections.abc import Sequence

import jax
from etils import epath

from scaling.check import memory
from scaling.config import RunConfig
from scaling.config.provenance import provenance
from scaling.devices import chips
from scaling.errors import BusyError, ConfigError, UserError
from scaling.executors.healing import as_recorded
from scaling.executors.result import OVER, Result
from scaling.records import RunDirectory, timing
from scaling.studies import study
from scaling.units import binary


def refused(
    configs: Sequence[RunConfig],
    workdir: epath.PathLike,
    devices: Sequence[jax.Device],
    limit: float | None = None,
) -> list[Result]:
    """Results of the runs that would not fit; the reason is in their directories.

    Args:
      configs: resolved.
      workdir: where the run directories are. What earlier attempts changed there counts.
      devices: of one run.
      limit: bytes of a device; None: as `device_bytes` finds.
    """
    limit = limit or device_bytes(devices[0], len(devices))
    if limit is None:
        return []
    out, known = [], dict[str, float | None]()
    for config in configs:
        run = RunDirectory.open(config, workdir)
        if run.status().get("state") in OVER:
            continue
        config = as_recorded(config, run.changed(), len(devices))
        key = timing.program(config)
        if key not in known:
            known[key] = needed_bytes(config, len(devices))
        needed = known[key]
        if needed is not None and needed > limit:
            result = refuse(config, workdir, _too_large(config, needed, limit))
            if result is not None:
                out.append(result)
    return out


def check(config: RunConfig, devices: Sequence[jax.Device]) -> None:
    """Raises UserError for a resolved run that would not fit on the devices here.

    By what its program needed before, where that is on record: no step is traced for it.
    """
    limit = device_bytes(devices[0], len(devices))
    recorded = timing.device_bytes(config, devices[0].device_kind, len(devices))
    if recorded is not None and recorded[1] == 1:  # of the run alone, not of a packed group
        needed: float | None = recorded[0]
    else:
        needed = needed_bytes(config, len(devices))
    if limit is not None and needed is not None and needed > limit:
        raise UserError(_too_large(config, needed, limit))


def _too_large(config: RunConfig, needed: float, limit: float) -> str:
    return (
        f"a step needs about {binary(needed)} of a device's memory, which has {binary(limit)}; "
        f"raise train.microbatches ({config.train.microbatches}), set model.remat "
        f"({config.model.remat}), use more devices, or train it all the same with "
        "--check_memory=False"
    )


def needed_bytes(config: RunConfig, devices: int) -> float | None:
    """Bytes of one device in a step; None for a mesh that cannot be, which the run will say."""
    try:
        return memory.estimate_bytes(config, devices).total
    except ConfigError:
        return None


def refuse(config: RunConfig, workdir: epath.PathLike, why: str) -> Result | None:
    """Write down that a run was not begun, and why, where `status` and the table find it.

    Args:
      config: resolved.
      workdir: where its directory is.
      why: with the numbers.

    Returns None when another process is training the run, and when the run has ended.
    """
    run, reason = RunDirectory.open(config, workdir), f"refused: {why}"
    try:
        with run.lock():
            if run.status().get("state") in OVER:
                return None
            write_config(config, workdir)
            if [a["reason"] for a in run.attempts()[-1:]] != [reason]:
                run.add_attempt(
                    failure="config",
                    reason=reason,
                    answer="not begun",
                    changed={},
                    step=run.status().get("step", 0),
                )
            run.write_status("failed", reason=reason)
    except BusyError:
        return None
    return Result(config, "failed", reason, "config")


def write_config(config: RunConfig, workdir: epath.PathLike) -> None:
    """`config.json` of a run that is not begun, without which nobody finds it; a start with
    devices stays. Raises UserError as `RunDirectory.start` does.
    """
    RunDirectory.open(config, workdir).start(config, provenance(), study.size(config))


def device_bytes(device: jax.Device, count: int = 1) -> float | None:
    """Memory that a program may use on a device, one of `count` here; None: not known.

    Of an accelerator `chips.memory_bytes`; of a CPU device its share of what the host, the control
    group and the limit of the process leave.
    """
    if device.platform == "cpu":
        host = _host_bytes()
        return None if host is None else host / count
    return chips.memory_bytes(device)


def _host_bytes() -> float | None:
    """Bytes that a process on this host may still take."""
    limits = [float(resource.getrlimit(resource.RLIMIT_AS)[0])]
    try:
        text = pathlib.Path("/proc/meminfo").read_text()
        limits += [1024.0 * int(n) for n in re.findall(r"MemAvailable:\s+(\d+)", text)]
    except OSError:
        pass
    groups = pathlib.Path("/sys/fs/cgroup")
    for path in (groups / "memory.max", groups / "memory" / "memory.limit_in_bytes"):
        try:
            limits.append(float(path.read_text()))  # "max" is no number
        except (OSError, ValueError):
            continue
    found = [limit for limit in limits if 0 < limit < 2.0**62]
    return min(found) if found else None
