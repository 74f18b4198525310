"""What Slurm says of its tasks: one call of squeue for all of them, and how one of them died.

squeue, unlike sacct, needs no accounting database, and knows a task for some minutes after its end
(MinJobAge). Called by `backend.py` and, in a task, `task.py`.
"""

import os
import subprocess
from dataclasses import dataclass

from scaling.train.failures import Failure

# States that a task does not leave by itself. Anything else is on its way to one of these.
OVER = frozenset(
    (
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
        *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
    )
)
# Name in squeue's --Format, and characters that are enough for it.
_COLUMNS = {
    "JobArrayID": 40,
    "State": 24,
    "exit_code": 12,
    "Name": 200,
    "NodeList": 200,
    "Reason": 60,
}
# Why a task waits, when it will not for ever.
_PASSING = frozenset(
    (
        *("None", "Resources", "Priority", "BeginTime", "JobArrayTaskLimit", "Dependency"),
        *("Cleaning", "Prolog", "Licenses", "Reservation", "NodeDown", "ReqNodeNotAvail"),
    )
)


@dataclass(frozen=True)
class Entry:
    """A task as squeue shows it."""

    id: str  # "123_4": task 4 of array 123; "123": not of an array
    state: str
    exit_code: int  # of its script; negative: a signal; 0 as long as it runs
    name: str
    nodes: str
    reason: str = ""  # why it waits

    @property
    def is_over(self) -> bool:
        return self.state in OVER

    @property
    def is_stuck(self) -> bool:
        """Whether it waits for something that may never be: a limit, nodes that do not exist."""
        reason = self.reason.partition(",")[0]
        return self.state == "PENDING" and bool(reason) and reason not in _PASSING


@dataclass(frozen=True)
class Death:
    """How a task ended that has no result."""

    text: str
    exit_code: int | None = None
    failure: Failure = "lost"


def read() -> dict[str, Entry] | None:
    """The user's tasks, by id; None when Slurm does not answer."""
    columns = ",".join(f"{name}:{width}|" for name, width in _COLUMNS.items())
    command = ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}"]
    try:
        done = subprocess.run(
            [*command, f"--Format={columns}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse(done.stdout) if done.returncode == 0 else None


def parse(text: str) -> dict[str, Entry]:
    """The lines that `read` asks for, by id."""
    entries = {}
    for line in text.splitlines():
        if line.count("|") < len(_COLUMNS):
            continue
        cells = [cell.strip() for cell in line.split("|")[: len(_COLUMNS)]]
        id, state, code, name, nodes, reason = cells
        entries[id] = Entry(id, state, _exit_code(code), name, nodes, reason)
    return entries


def _exit_code(text: str) -> int:
    """squeue gives what the system call wait does; a shell adds 128 to a child's signal."""
    code = os.waitstatus_to_exitcode(int(text)) if text.isdigit() else 0
    return 128 - code if code > 128 else code


def death(id: str, entry: Entry | None) -> Death:
    """What to say of a task that is over and left no result; `entry` None: Slurm has forgotten."""
    task = f"Slurm task {id}"
    if entry is None:
        return Death(f"{task} is gone from Slurm's queue and left no result")
    where = f" on {entry.nodes}" if entry.nodes else ""
    code = entry.exit_code or None
    how = None if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"
    texts = {
        "CANCELLED": f"{task} was cancelled",
        "TIMEOUT": f"{task} was ended by its time limit before it had saved its state",
        "NODE_FAIL": f"{task} lost a node of{where.removeprefix(' on') or ' its own'}",
        "OUT_OF_MEMORY": f"{task} had not enough memory{where}",
        "COMPLETED": f"{task} ended{where} and left no result",
    }
    failures: dict[str, Failure] = {"OUT_OF_MEMORY": "memory", "PREEMPTED": "preempted"}
    said = f"{task} ended{where} as {entry.state}"
    text = texts.get(entry.state, f"{said}, with {how}" if how else said)
    return Death(text, code, failures.get(entry.state, "lost"))


def cancel(ids: list[str]) -> bool:
    """End tasks: a running one gets SIGTERM, and SIGKILL some seconds later (KillWait).

    False when Slurm did not answer; one that is over already does no harm.
    """
    try:
        for first in range(0, len(ids), 500):
            line = ["scancel", *ids[first : first + 500]]
            subprocess.run(line, capture_output=True, check=False, timeout=120)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return True


def requeue(id: str) -> bool:
    """Put this one task, not its array, back into the queue, which ends it; False: not possible.

    On some clusters the nodes have no scontrol.
    """
    command = ["scontrol", "requeue", id]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
