"""Space on the file system of a workdir: which one it is, and whether it has room again.

Called by the scheduler when a run could not write. Object stores are never full.
"""

import contextlib
import os
from collections.abc import Sequence

from etils import epath

from scaling import files
from scaling.config import RunConfig
from scaling.costs import sizes

_BYTES_PER_PARAM = 16.0  # of a checkpoint: weights, two moments, perhaps their average; float32
_SPARE = 2**20  # lines, events, folders


def bytes_needed(configs: Sequence[RunConfig]) -> int:
    """Room that runs want before they are tried again: one checkpoint more of each."""
    return sum(int(_BYTES_PER_PARAM * sizes.size(c).params) + _SPARE for c in configs)


def has_room(workdir: epath.PathLike, size: int) -> bool:
    """Whether `size` bytes can be had, quotas included: they are reserved, and given back."""
    if not files.is_local(workdir):
        return True
    probe = os.path.join(os.fspath(workdir), f".room.{os.getpid()}")
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            os.unlink(probe)
    return True
