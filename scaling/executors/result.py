"""What an executor says of each run."""

from dataclasses import dataclass
from typing import Literal

from scaling.config import RunConfig

# Why a run has no end yet. `healing.py` has an answer to each.
Failure = Literal[
    "preempted",  # told to stop by someone else than the scheduler, and saved
    "memory",  # of the device or of the host
    "lost",  # the process, the host, or the way to it
    "disk",  # the file system is full
    "busy",  # a living process holds the run's lock
    "config",  # what the run asks for cannot be had; a person must change it
    "error",  # anything else that was raised
]


@dataclass(frozen=True)
class Result:
    """How one run ended."""

    config: RunConfig
    status: str  # done | stopped | diverged | failed | pending
    reason: str | None = None
    failure: Failure | None = None  # of a run that failed
