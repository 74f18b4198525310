"""Trackers: what a run writes down, told to Weights & Biases, MLflow, trackio or a CSV file.

They read run directories, as reports do, in a process of their own (`follow.py`), so that training
knows nothing of them: one that hangs, raises or has no network costs a run nothing, and what it
missed is sent later, by the same code (`sync.py`, `launch.py sync`). TensorBoard's events are
written by the trainer itself. Adding a tracker is an entry in `TRACKERS` and a `Session`.
"""

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from scaling.errors import UserError, nearest

Rows = Sequence[tuple[int, Mapping[str, float]]]  # step -> "train/loss" and the like


@dataclass(frozen=True)
class About:
    """The run that a session is of."""

    id: str  # its fingerprint: the same after every restart
    name: str
    group: str | None  # the study
    config: Mapping[str, Any]  # by dotted name
    tags: Sequence[str]
    folder: str  # <workdir>/trackers/<tracker>, for a tracker that keeps files; a local one


class Session(Protocol):
    """A run that is told to a tracker; made by `TRACKERS[name](about, place)`, which goes on with
    the tracker's run of the same id if there is one. Any exception means: not sent.
    """

    def log(self, rows: Rows) -> None:
        """Metrics by step, ascending."""

    def close(self, state: str) -> None:
        """What was logged is kept when this returns; `state` as in status.json."""


@dataclass(frozen=True)
class _Entry:
    module: str
    package: str | None  # that must be installed
    place: str  # what may stand behind the name, for a person


TRACKERS = {
    "csv": _Entry("csv_file", None, "a folder"),
    "wandb": _Entry("wandb_run", "wandb", "online or offline"),
    "mlflow": _Entry("mlflow_run", "mlflow", "a tracking URI"),
    "trackio": _Entry("trackio_run", "trackio", "a space of the hub"),
}


def opened(name: str, about: About, place: str) -> Session:
    """A session of a tracker; raises whatever its package raises."""
    module = importlib.import_module(f"scaling.trackers.{TRACKERS[name].module}")
    session: Session = module.open(about, place)
    return session


def parsed(text: str, flag: str = "--track") -> list[tuple[str, str]]:
    """(tracker, place) of "csv,mlflow:http://host:5000"; the place is "" where none is given.

    Raises UserError for a tracker that there is not, or whose package is not installed.
    """
    found = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        name, _, place = word.partition(":")
        if name not in TRACKERS:
            raise UserError(f"{flag}={text}: {name} is no tracker{nearest(name, TRACKERS)}")
        package = TRACKERS[name].package
        if package is not None and importlib.util.find_spec(package) is None:
            raise UserError(
                f"{flag}={text}: the package {package} is not installed; "
                f"pip install {package}, or 'scaling[trackers]' for all"
            )
        found.append((name, place))
    if not found:
        raise UserError(f"{flag}={text}: name a tracker ({', '.join(TRACKERS)})")
    return found
