"""Where a list of runs is trained. Every executor takes resolved RunConfigs and fills their run
directories; one failed run never stops the others."""

from collections.abc import Callable

from scaling.executors.local import run_local
from scaling.executors.result import Result
from scaling.executors.slurm import run_slurm

EXECUTORS: dict[str, Callable[..., list[Result]]] = {"local": run_local, "slurm": run_slurm}
