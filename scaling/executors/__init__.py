"""Where a list of runs is trained. Every executor takes jobs of resolved RunConfigs and fills their
run directories; one failed run never stops the others.

`EXECUTORS` is the one list of them: the choices of `sweep --executor` and the flags of each come
from it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scaling.executors.local import run_local
from scaling.executors.pods import GcloudOptions, XpkOptions, gcloud, run_gcloud, run_xpk, xpk
from scaling.executors.result import Result
from scaling.executors.slurm import SlurmOptions, run_slurm


@dataclass(frozen=True)
class Executor:
    """A place where sweeps are trained."""

    run: Callable[..., list[Result]]  # jobs, workdir, and by name: stop, on_result, options
    options: type[Any] | None = None  # of whose fields the flags --<executor>_<field> are made
    # Of one that rents TPUs, the slices of its options: what it runs for a job.
    commands: Callable[..., list[list[str]]] | None = None


EXECUTORS = {
    "local": Executor(run_local),
    "slurm": Executor(run_slurm, SlurmOptions),
    "xpk": Executor(run_xpk, XpkOptions, xpk.commands),
    "gcloud": Executor(run_gcloud, GcloudOptions, gcloud.commands),
}
