"""What an executor says of each run."""

from dataclasses import dataclass

from scaling.config import RunConfig
from scaling.failures import Failure


@dataclass(frozen=True)
class Result:
    """How one run ended."""

    config: RunConfig
    status: str  # done | stopped | diverged | failed | pending
    reason: str | None = None
    failure: Failure | None = None  # of a run that failed
