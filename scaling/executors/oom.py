"""What can be known of a process that ran out of memory and could not say so itself.

The kernel counts the processes that it has killed for memory, for each control group and for the
machine; a C++ library that is refused memory ends the process with a line in its log. Called by the
local backend.
"""

import pathlib
import re

from scaling.train.failures import DISK_SIGNS, MEMORY_SIGNS


def kills() -> int:
    """Processes that the kernel has killed for memory so far, here; 0 where it does not say.

    Of this process's control group where it counts them, else of the whole machine.
    """
    of_groups = [count for path in _groups() if (count := _count(path)) is not None]
    return sum(of_groups) if of_groups else _count(pathlib.Path("/proc/vmstat")) or 0


def _groups() -> list[pathlib.Path]:
    """Files of this process's control groups that have a line "oom_kill N"."""
    out, root = [], pathlib.Path("/sys/fs/cgroup")
    try:
        lines = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            out.append(root / path.strip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            out.append(root / "memory" / path.strip("/") / "memory.oom_control")
    return out


def _count(path: pathlib.Path) -> int | None:
    try:
        found = re.search(r"^oom_kill (\d+)", path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def says_so(log: str) -> bool:
    """Whether the last words in a log are of memory that could not be had.

    A full disk is a "RESOURCE_EXHAUSTED", too: such lines do not count.
    """
    lines = [
        line for line in log.lower().splitlines() if not any(sign in line for sign in DISK_SIGNS)
    ]
    return any(sign in line for line in lines for sign in MEMORY_SIGNS)
