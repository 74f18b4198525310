"""TPU pods as places for jobs: on GKE through xpk, and plain TPU VMs through gcloud.

Each host of a job runs the same command, `launch.py work --job=FILE`, with the job's file on the
workdir; how the job ended is in a file beside it. `xpk.py` and `gcloud.py` make the commands and
are the two backends, `watching.py` is what they share; `desk.py` keeps the files. `launch.py sweep`
calls them.
"""

from collections.abc import Sequence
from typing import Any

from etils import epath

from scaling.executors import scheduler
from scaling.executors.jobs import Job
from scaling.executors.pods.gcloud import GcloudBackend, GcloudOptions
from scaling.executors.pods.xpk import XpkBackend, XpkOptions
from scaling.executors.result import Result

__all__ = [
    "GcloudBackend",
    "GcloudOptions",
    "XpkBackend",
    "XpkOptions",
    "run_gcloud",
    "run_xpk",
]


def run_xpk(
    jobs: Sequence[Job], workdir: epath.PathLike, *, options: XpkOptions, **how: Any
) -> list[Result]:
    """Train the runs of all jobs on GKE; `how` as for `scheduler.run_jobs`."""
    return scheduler.run_jobs(jobs, workdir, XpkBackend(workdir, options), **how)


def run_gcloud(
    jobs: Sequence[Job], workdir: epath.PathLike, *, options: GcloudOptions, **how: Any
) -> list[Result]:
    """Train the runs of all jobs on TPU VMs; `how` as for `scheduler.run_jobs`."""
    return scheduler.run_jobs(jobs, workdir, GcloudBackend(workdir, options), **how)
