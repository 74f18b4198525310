"""Keeps orbax and tensorstore from reporting, each thread in its own traceback, that a place cannot
be written: the main thread is told, too, and `storage.py` says it in one line.

Called by `checkpoint.py`.
"""

import logging
import sys
from collections.abc import Callable

from scaling.train.failures import storage_trouble


class _OfStorage(logging.Filter):
    """Drops records that carry an error of storage."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return error is None or storage_trouble(error) is None


_FILTER = _OfStorage()
_before: list[Callable[["sys.UnraisableHookArgs"], object]] = []


def hush() -> None:
    """From now on, in this process; calling it again changes nothing."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_FILTER)
    if not _before:
        _before.append(sys.unraisablehook)
        sys.unraisablehook = _hook


def _hook(unraisable: "sys.UnraisableHookArgs") -> None:
    """tensorstore tells orbax of each write that failed, though it has left after the first."""
    if str(unraisable.exc_value) != "Event loop is closed":
        _before[0](unraisable)
