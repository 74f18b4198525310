"""How the devices of this machine are shared by the processes that train on it.

A CPU process has its cores (`local.py`) as one device; GPUs are dealt out, since jax takes most of
a GPU's memory for one process. Called by the local executor and by `launch.py sweep`, which plans
for it.
"""

import os

import jax

from scaling.devices import runtime
from scaling.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"


def processes(workers: int | None) -> int:
    """How many train at a time: as many as asked for, else one a core on a CPU machine."""
    if workers is None:
        return len(os.sched_getaffinity(0)) if jax.default_backend() == "cpu" else 1
    if workers > 1:
        runtime.only_look()  # the devices are the workers'
    return workers


def worker_devices(workers: int) -> int:
    """Devices of each of so many worker processes: its share of the GPUs, or its CPU as one."""
    shares = gpus(workers)
    return len(shares[0]) if shares else 1


def gpus(workers: int) -> list[list[str]]:
    """What each of so many workers sees of the GPUs of this machine; [] where there are none."""
    platform = jax.default_backend()
    if platform == "cpu":
        return []
    if platform != "gpu":
        raise UserError(
            f"--workers={workers}: processes cannot share the {platform} of this machine; leave "
            "--workers unset"
        )
    return gpu_shares(jax.local_device_count(), workers, os.environ.get(VISIBLE))


def gpu_shares(count: int, workers: int, visible: str | None = None) -> list[list[str]]:
    """GPUs of each worker: neighbours, as many for each, so that every run has the same mesh.

    Args:
      count: of this process.
      workers: processes to share them.
      visible: this process's own CUDA_VISIBLE_DEVICES.

    Raises UserError when there are fewer GPUs than workers.
    """
    if workers > count:
        raise UserError(
            f"--workers={workers} on {count} GPU{'s' if count > 1 else ''}: a worker has at least "
            f"one for itself; give --workers={count} or less, or train several runs on one with "
            "--pack"
        )
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    each = count // workers
    return [names[worker * each : (worker + 1) * each] for worker in range(workers)]
