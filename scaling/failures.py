"""What kind of failure an exception is: a pure function of what was raised.

Called where a run ends badly (`executors/jobs.py`; `executors/healing.py` has an answer to each
kind), and where a checkpoint cannot be read (`train/checkpoint.py`).
"""

import errno
from typing import Literal

from scaling.distributed import peer_lost
from scaling.errors import BusyError, DiskFullError, UserError

# Why a run has no end yet. `executors/healing.py` has an answer to each.
Failure = Literal[
    "preempted",  # told to stop by someone else than the scheduler, and saved
    "memory",  # of the device or of the host
    "lost",  # the process, the host, or the way to it
    "disk",  # the file system is full
    "busy",  # a living process holds the run's lock
    "config",  # what the run asks for cannot be had; a person must change it
    "error",  # anything else that was raised
]

DISK_SIGNS = ("no space left on device", "disk quota exceeded")
MEMORY_SIGNS = ("resource_exhausted", "out of memory", "bad_alloc", "cannot allocate memory")
# What the network, or a file system behind it, says when it is gone for a while.
_LOST_CODES = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET}
_LOST_HTTP = (408, 429, 500, 502, 503, 504)  # of an object store, the `code` of its errors
_LOST = (
    *("unavailable:", "deadline_exceeded", "connection reset", "stale file handle"),
    "input/output error",  # as tensorstore says it, without the system's code
)


def classify(error: BaseException) -> Failure:
    """What kind of failure an exception is; its causes are looked at as well."""
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    text = "\n".join(str(e) for e in chain).lower()
    codes = {e.errno for e in chain if isinstance(e, OSError)}
    # A full disk first: some libraries call it an exhausted resource, too.
    if (
        any(isinstance(e, DiskFullError) for e in chain)
        or codes & {errno.ENOSPC, errno.EDQUOT}
        or any(sign in text for sign in DISK_SIGNS)
    ):
        return "disk"
    if isinstance(error, BusyError):
        return "busy"
    if codes & _LOST_CODES:  # also where it comes as a UserError that names the file
        return "lost"
    if isinstance(error, UserError):
        return "config"
    memory = any(isinstance(e, MemoryError) for e in chain) or errno.ENOMEM in codes
    if memory or any(sign in text for sign in MEMORY_SIGNS):
        return "memory"
    if any(getattr(e, "code", None) in _LOST_HTTP for e in chain):
        return "lost"
    return "lost" if peer_lost(error) or any(sign in text for sign in _LOST) else "error"
