"""What is asked of Slurm: `SlurmOptions`, from which the flags --slurm_... of `sweep` are
made, and what they are to submitit and sbatch. Called by `backend.py`.
"""

import contextlib
import math
import os
import pathlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from etils import epath

from scaling import files
from scaling.config import to_dict
from scaling.errors import UserError
from scaling.executors.jobs import Job
from scaling.executors.options import option

REPOSITORY = pathlib.Path(__file__).parents[3]


@dataclass(frozen=True)
class SlurmOptions:
    """What is asked of Slurm for every task; None: the cluster's default."""

    partition: str | None = option(None, "partition")
    account: str | None = option(None, "account")
    qos: str | None = option(None, "quality of service")
    time: int = option(60, "minutes; then the state is saved and the task queued again", 1)
    save: int = option(90, "seconds before the time limit at which a task begins to save", 0)
    nodes: int | None = option(None, "nodes of a run; default: as many as its mesh needs", 1)
    tasks_per_node: int = option(1, "processes of a run on each node", 1)
    cpus: int | None = option(None, "cores of a process", 1)
    gpus: int | None = option(None, "GPUs of a node", 1)
    mem: float | None = option(None, "GB of a node", 0.001)
    constraint: str | None = option(None, "features that a node must have")
    exclude: str | None = option(None, "nodes not to use")
    array_parallelism: int | None = option(
        None, "tasks that may run at a time; default: no limit", 1
    )
    queued: int = option(
        1000, "tasks in the queue at a time, and in an array (MaxArraySize less 1)", 1
    )
    setup: tuple[str, ...] = option((), "a shell line to run before the task; may be repeated")
    extra: tuple[str, ...] = option(
        (), "name=value or name for sbatch, such as reservation=mine; may be repeated"
    )
    folder: str | None = option(None, "shared folder of logs; default <workdir>/slurm")
    poll: float = option(5.0, "seconds between looks at the queue", 0.1)


def nodes_of(job: Job, options: SlurmOptions, cpu_devices: int | None = None) -> int:
    """Nodes of a job: as asked for, or enough for the sizes that its mesh names."""
    if options.nodes is not None:
        return options.nodes
    sizes = to_dict(job.configs[0].mesh).values()
    devices = math.prod(size for size in sizes if size is not None)
    return -(-devices // node_devices(options, cpu_devices))


def node_devices(options: SlurmOptions, cpu_devices: int | None = None) -> int:
    """Devices of a node: `gpus`, or, without GPUs, those of its processes."""
    return options.gpus or options.tasks_per_node * (cpu_devices or 1)


def parameters(options: SlurmOptions) -> dict[str, Any]:
    """What submitit is told, apart from names and nodes."""
    extra = {}
    for text in options.extra:
        name, _, value = text.partition("=")
        extra[name] = value or True
    # A process that fails ends the others of its run at once; and srun, since 22.05, no longer
    # takes the number of cores from sbatch.
    srun = ["--kill-on-bad-exit=1"]
    if options.cpus is not None:
        srun.append(f"--cpus-per-task={options.cpus}")
    path = f"export PYTHONPATH={REPOSITORY}${{PYTHONPATH:+:$PYTHONPATH}}"
    given = {
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "cpus_per_task": options.cpus,
        "gpus_per_node": options.gpus,
        "mem": None if options.mem is None else f"{round(options.mem * 1024)}MB",
        "constraint": options.constraint,
        "exclude": options.exclude,
    }
    return {name: value for name, value in given.items() if value is not None} | {
        "time": options.time,
        "signal_delay_s": options.save,
        "ntasks_per_node": options.tasks_per_node,
        "setup": [path, *options.setup],
        "srun_args": srun,
        "stderr_to_stdout": True,
        "additional_parameters": {"requeue": True, **extra},
    }


def check(workdir: epath.PathLike, options: SlurmOptions) -> None:
    """Raise UserError where there is no Slurm or no submitit, and for options that cannot be."""
    missing = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
    if missing:
        raise UserError(
            f"--executor=slurm: {', '.join(missing)} not found; run the sweep on a machine that "
            "submits to Slurm, or take another executor"
        )
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise UserError(
            "--executor=slurm needs submitit; install it with pip install -e '.[slurm]'"
        ) from error
    if options.folder is None and not files.is_local(workdir):
        raise UserError(
            f"--workdir={os.fspath(workdir)} is no folder that Slurm can write its logs to; give "
            "one that all nodes share, --slurm_folder"
        )
    for name in ("time", "tasks_per_node", "nodes", "cpus", "gpus", "array_parallelism", "queued"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--slurm_{name}={value} must be at least 1")


@contextlib.contextmanager
def outside_of_a_job() -> Iterator[None]:
    """Without what Slurm says of the job that the scheduler itself may run in: sbatch would take it
    for wishes.
    """
    inside = {
        name: value
        for name, value in os.environ.items()
        if "SLURM_JOB_ID" in os.environ
        and name.startswith(("SLURM_", "SLURMD_", "SRUN_"))
        and name != "SLURM_CONF"
    }
    for name in inside:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(inside)
