"""What kind of failure an exception is: a pure function of what was raised.

Called where a run ends badly (`executors/jobs.py`; `executors/healing.py` has an answer to each
kind; `train/storage.py` says what a folder has), and where a checkpoint cannot be read
(`train/checkpoint.py`).
"""

import errno
from typing import Literal

from scaling.devices.distributed import peer_lost
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

# What is wrong with a place that cannot be written.
Trouble = Literal["full", "denied", "missing"]

DISK_SIGNS = ("no space left on device", "disk quota exceeded")
# Per trouble: the system's codes, and its words where a library gives only those.
_TROUBLES: dict[Trouble, tuple[set[int], tuple[str, ...]]] = {
    "full": ({errno.ENOSPC, errno.EDQUOT}, DISK_SIGNS),
    "denied": (
        {errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG},
        (
            "permission denied",
            "operation not permitted",
            "read-only file system",
            "file too large",
        ),
    ),
    "missing": ({errno.ENOENT}, ("no such file or directory", "not_found:")),
}
MEMORY_SIGNS = ("resource_exhausted", "out of memory", "bad_alloc", "cannot allocate memory")
# What the network, or a file system behind it, says when it is gone for a while.
_LOST_CODES = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET}
_LOST_HTTP = (408, 429, 500, 502, 503, 504)  # of an object store, the `code` of its errors
_LOST = (
    *("unavailable:", "deadline_exceeded", "connection reset", "stale file handle"),
    "input/output error",  # as tensorstore says it, without the system's code
)


def storage_trouble(error: BaseException) -> Trouble | None:
    """What an exception, or one that led to it, says of the place that it could not write (or, of
    the last two, perhaps read); None: nothing.
    """
    if any(isinstance(e, DiskFullError) for e in chain(error)):
        return "full"
    text, codes = _read(error)
    for trouble, (known, signs) in _TROUBLES.items():
        if codes & known or any(sign in text for sign in signs):
            return trouble
    return None


def chain(error: BaseException) -> list[BaseException]:
    """An exception and what led to it, the first cause last."""
    found: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in found:
        found.append(at)
        at = at.__cause__ or at.__context__
    return found


def _read(error: BaseException) -> tuple[str, set[int | None]]:
    """The words of an exception and of what led to it, and the system's codes among them."""
    met = chain(error)
    return "\n".join(map(str, met)).lower(), {e.errno for e in met if isinstance(e, OSError)}


def classify(error: BaseException) -> Failure:
    """What kind of failure an exception is; its causes are looked at as well."""
    # A full disk first: some libraries call it an exhausted resource, too.
    if storage_trouble(error) == "full":
        return "disk"
    text, codes = _read(error)
    if isinstance(error, BusyError):
        return "busy"
    if codes & _LOST_CODES:  # also where it comes as a UserError that names the file
        return "lost"
    if isinstance(error, UserError):
        return "config"
    memory = any(isinstance(e, MemoryError) for e in chain(error)) or errno.ENOMEM in codes
    if memory or any(sign in text for sign in MEMORY_SIGNS):
        return "memory"
    if any(getattr(e, "code", None) in _LOST_HTTP for e in chain(error)):
        return "lost"
    return "lost" if peer_lost(error) or any(sign in text for sign in _LOST) else "error"
