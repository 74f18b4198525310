"""What a scheduler and the hosts of a pod tell each other: files below `<workdir>/jobs`.

The scheduler writes `<name>.json`, which every host reads; the hosts leave `<name>.ended-<n>.json`,
which the scheduler reads when the cloud says that the job is over. The name follows from the runs:
a scheduler that is started again finds what the one before it began. Works on object stores.
"""

import hashlib
import json
import shlex
from collections.abc import Sequence

from etils import epath

from scaling import files
from scaling.config.identity import fingerprint
from scaling.errors import UserError
from scaling.executors import result as result_lib
from scaling.executors.jobs import Job
from scaling.executors.result import Result

FOLDER = "jobs"


def name_of(job: Job) -> str:
    """Of a workload, a queued resource and a file: 17 letters and digits, the same for the same
    runs. Kubernetes, xpk (at most 40) and gcloud all take it.
    """
    runs = ",".join(sorted(fingerprint(config) for config in job.configs))
    return f"run-{hashlib.sha256(runs.encode()).hexdigest()[:13]}"


def job_file(job: Job, workdir: epath.PathLike) -> epath.Path:
    """Where the job is written."""
    return epath.Path(workdir) / FOLDER / f"{name_of(job)}.json"


def command(job: Job, workdir: epath.PathLike, python: str, env: Sequence[str] = ()) -> str:
    """What every host runs, for a shell. `exec`: so that signals reach Python, not the shell."""
    work = [python, "launch.py", "work", f"--job={job_file(job, workdir)}"]
    return "exec " + shlex.join([*(["env", *env] if env else []), *work])


def give(job: Job, workdir: epath.PathLike) -> epath.Path:
    """Write the job, and remove what an earlier attempt left; the file."""
    path = job_file(job, workdir)
    files.make_directory(path.parent)
    for left in _ended_files(path):
        left.unlink(missing_ok=True)
    files.write_atomic(path, (json.dumps(job.to_dict(), indent=1) + "\n").encode())
    return path


def take(path: epath.PathLike) -> tuple[Job, epath.Path]:
    """The job of a file, and its workdir. Raises UserError when there is none."""
    path = epath.Path(path)
    try:
        job = Job.from_dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"--job={path} cannot be read ({why}); `launch.py sweep` writes it, below --workdir, "
            "which every host must reach under the same name"
        ) from error
    return job, path.parent.parent


def write_ended(path: epath.PathLike, process: int, results: Sequence[Result] | None) -> None:
    """How a job ended, as one of its processes knows it; None: it begins."""
    path = epath.Path(path)
    place = path.parent / f"{path.stem}.ended-{process}.json"
    if results is None:
        place.unlink(missing_ok=True)
        return
    result_lib.write(place, results)


def read_ended(job: Job, workdir: epath.PathLike) -> tuple[Result, ...] | None:
    """How it ended; None when no process has said so."""
    return result_lib.read(job.configs, _ended_files(job_file(job, workdir)))


def _ended_files(path: epath.Path) -> list[epath.Path]:
    if not path.parent.exists():
        return []
    return sorted(path.parent.glob(f"{path.stem}.ended-*.json"))
