"""What the two backends of this folder share: a job is asked for, watched, and given back.

The cloud is asked how everything is at most every `poll` seconds, with one command. What has the
name of a job and is not over belongs to an earlier scheduler: it is taken over, not asked for
twice. What is over but still there is removed first: its name is taken.
"""

import abc
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from etils import epath

from scaling.executors.jobs import Ended, Job
from scaling.executors.pods import desk, shell
from scaling.executors.result import Result


@dataclass
class Entry:
    """A job of this scheduler."""

    job: Job
    asked: bool = False  # the cloud has it
    removed: bool = False  # what had its name was told to go

    @property
    def name(self) -> str:
        """In the cloud."""
        return desk.name_of(self.job)


class WatchingBackend(abc.ABC):
    """`Backend`, but for how a cloud is asked, told and understood."""

    slots: int | None = None

    def __init__(self, workdir: epath.PathLike, poll: float, devices: int):
        self._workdir, self._poll, self._devices = epath.Path(workdir), poll, devices
        self._entries: dict[int, Entry] = {}
        self._looked = 0.0
        self._stopped = False

    @abc.abstractmethod
    def states(self) -> Mapping[str, str] | None:
        """State by name of everything that is there; None when the cloud does not answer."""

    @abc.abstractmethod
    def is_over(self, state: str) -> bool:
        """Whether nothing more comes of it."""

    @abc.abstractmethod
    def ask(self, job: Job) -> list[str]:
        """The command that asks for what a job needs."""

    @abc.abstractmethod
    def remove(self, job: Job) -> list[str]:
        """The command that removes it."""

    @abc.abstractmethod
    def look(self, number: int, entry: Entry, state: str | None) -> Ended | None:
        """A job that was asked for, and what the cloud says of it; None while it goes on."""

    def devices(self, job: Job) -> int:
        """Chips, the same for every job."""
        return self._devices

    def start(self, number: int, job: Job) -> None:
        """It is asked for at the next `wait`."""
        self._entries[number] = Entry(job)
        self._looked = 0.0

    def wait(self, seconds: float) -> list[Ended]:
        """Jobs that ended since the last call; waits up to so long for the first."""
        due = self._looked + self._poll - time.monotonic()
        if self._looked and due > seconds:
            time.sleep(seconds)
            return []
        if self._looked:
            time.sleep(max(0.0, due))
        states, self._looked = self.states(), time.monotonic()
        if states is None:
            return []  # what runs goes on without us
        ended = []
        for number, entry in list(self._entries.items()):
            state = states.get(entry.name)
            end = (
                self.look(number, entry, state) if entry.asked else self._ask(number, entry, state)
            )
            if end is not None:
                del self._entries[number]
                ended.append(end)
        return ended

    def _ask(self, number: int, entry: Entry, state: str | None) -> Ended | None:
        if self._stopped:
            return Ended(number, tuple(Result(config, "pending") for config in entry.job.configs))
        if state is None:
            desk.give(entry.job, self._workdir)
            done = shell.run(self.ask(entry.job))
            if done.returncode:
                return Ended(number, None, shell.complaint(done), done.returncode)
            entry.asked = True
        elif not self.is_over(state):
            print(f"{entry.name} is there already; it is taken over", file=sys.stderr)
            entry.asked = True
        elif not entry.removed:
            done = shell.run(self.remove(entry.job))
            if done.returncode:  # tried again by the scheduler, as long as it pays
                return Ended(number, None, shell.complaint(done), done.returncode)
            entry.removed = True
        return None

    def ended(self, number: int, entry: Entry, death: str, log: str) -> Ended:
        """What the hosts have written of a job that is over; else its death."""
        results = desk.read_ended(entry.job, self._workdir)
        if results is None and self._stopped:
            results = tuple(Result(config, "stopped") for config in entry.job.configs)
        return Ended(number, results, None if results else death, log=log)
