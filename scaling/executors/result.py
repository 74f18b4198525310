"""What an executor says of each run, and how it is told from one process to another: as rows of
JSON, over a pipe (`worker.py`) or in files (Slurm tasks, hosts of a pod).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath

from scaling import files
from scaling.config import RunConfig
from scaling.train.failures import Failure

OVER = ("done", "diverged")  # states that are results: such a run is never trained again


@dataclass(frozen=True)
class Result:
    """How one run ended."""

    config: RunConfig
    status: str  # done | paused | stopped | diverged | failed | pending
    reason: str | None = None
    failure: Failure | None = None  # of a run that failed


def to_rows(results: Iterable[Result]) -> list[dict[str, Any]]:
    """As JSON, without the configs: who reads them has the job."""
    return [{"status": r.status, "reason": r.reason, "failure": r.failure} for r in results]


def from_rows(
    configs: Sequence[RunConfig], rows: Sequence[Mapping[str, Any]]
) -> tuple[Result, ...]:
    """What `to_rows` was given; `configs` of the job, in its order."""
    return tuple(Result(config, **row) for config, row in zip(configs, rows, strict=True))


def write(path: epath.PathLike, results: Iterable[Result]) -> None:
    """How a job ended, as one of its processes knows it."""
    files.write_atomic(path, (json.dumps(to_rows(results), indent=1) + "\n").encode())


def read(
    configs: Sequence[RunConfig], paths: Iterable[epath.PathLike]
) -> tuple[Result, ...] | None:
    """What the processes of a job have written; None: nothing that is of these runs.

    The process that failed by itself knows best; those that lost it, least.
    """
    written = [json.loads(epath.Path(path).read_bytes()) for path in paths]
    found = [from_rows(configs, rows) for rows in written if len(rows) == len(configs)]
    return max(found, key=_knowledge, default=None)


def _knowledge(results: tuple[Result, ...]) -> int:
    failures = {result.failure for result in results if result.status == "failed"}
    return 1 if failures - {"lost"} else -1 if failures else 0
