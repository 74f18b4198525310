"""Rows of several tasks: which task a row is of, and what stands in it. Called by the kind's
record.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling.config import choices
from scaling.config.contracts import ENDLESS, Examples, Kind, Shape
from scaling.data import draws
from scaling.errors import ConfigError, SourceError

# Field of a row -> (one a token, dtype, its name in the task's own kind)
_Own = dict[str, tuple[bool, str, str]]
_LABELLED: _Own = {
    "label": (False, "int32", "label"),
    "label_weight": (False, "float32", "weight"),
}
_TAGGED: _Own = {"tags": (True, "int32", "tags"), "tags_weight": (True, "float32", "tag_mask")}
_ASKED: _Own = {
    "start": (False, "int32", "start"),
    "end": (False, "int32", "end"),
    "answerable": (True, "float32", "answerable"),
    "answer_weight": (False, "float32", "weight"),
}
_HIDDEN: _Own = {"token_weight": (True, "float32", "loss_mask")}
OWN = {"labelled": _LABELLED, "tagged": _TAGGED, "questions": _ASKED, "text": _HIDDEN}
_SHARED = ("tokens", "positions", "segment_ids", "token_types")
_WHICH, _WHERE = 0, 1  # places of the bits that say the task and the example


def task_names(data: Any) -> list[str]:
    """The tasks of a source, in their order. Raises SourceError for what is none."""
    return [name for name, _ in _pairs(data.source)]


def _pairs(source: str) -> list[tuple[str, str]]:
    found = list[tuple[str, str]]()
    for text in source.split(","):
        name, equals, rest = text.strip().partition("=")
        if name not in OWN or not equals or not rest:
            raise SourceError(
                f'source "{source}": "{text.strip()}" is no task and its source; write one or more '
                f"of {', '.join(OWN)}, as tagged=tokens"
            )
        if name in dict(found):
            raise SourceError(f'source "{source}" has {name} twice; name each task once')
        found.append((name, rest))
    return found


def shares(data: Any) -> list[float]:
    """Of resolved data the share of each task, in the order of `source`. Raises ConfigError."""
    names, sizes = task_names(data), [int(size) for size in data.sizes.split(",")]
    if data.temperature is not None:
        if data.weights is not None:
            raise ConfigError(
                f"data.temperature={data.temperature} and data.weights={data.weights!r} both say "
                "the shares; leave one of them unset"
            )
        weights = [size ** (1 / data.temperature) for size in sizes]
    else:
        weights = [1.0] * len(names) if data.weights is None else _numbers(data.weights, names)
    return [weight / sum(weights) for weight in weights]


def _numbers(text: str, names: list[str]) -> list[float]:
    try:
        found = [float(one) for one in text.split(",")]
    except ValueError:
        found = []
    if len(found) != len(names) or min(found) < 0 or not 0 < sum(found) < float("inf"):
        raise ConfigError(
            f"data.weights={text!r} must be {len(names)} numbers with commas, one for each of "
            f"{', '.join(names)}, none below 0, and not all 0"
        )
    return found


@dataclass(frozen=True)
class Task:
    """One of them, and the data that are its own."""

    name: str
    kind: Kind
    data: Any

    @staticmethod
    def all(data: Any) -> "list[Task]":
        """Those of a source."""
        found = []
        for name, source in _pairs(data.source):
            kind = choices.record("data", name)
            fraction = data.validation_fraction
            own = kind.config(
                source=source, seq_len=data.seq_len, validation_fraction=fraction, seed=0
            )
            found.append(Task(name, kind, own))
        return found


@dataclass(frozen=True)
class Mixed:
    """The rows of a split: in training without end, drawn by `shares`; else of all tasks alike,
    one after the other, as long as each has one.
    """

    tasks: tuple[Task, ...]
    numbers: tuple[int, ...]  # of these tasks among all of the source
    parts: tuple[Examples, ...]
    rows: tuple[np.ndarray, ...]  # of each part, that are used
    shares: tuple[float, ...] | None
    shapes: dict[str, Shape]

    def __len__(self) -> int:
        if self.shares is not None:
            return ENDLESS
        return len(self.tasks) * min(len(rows) for rows in self.rows)

    def take(self, indices: np.ndarray, keys: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The numbered rows: tokens and what goes with them int32 [B, L], `task` int32 [B], and the
        fields of every task, 0 in rows of others. Nothing else is drawn: `keys` change nothing.
        """
        del keys
        which, where = self._placed(np.asarray(indices, np.int64))
        batch = {
            name: np.zeros((len(indices), *shape), dtype)
            for name, (shape, dtype) in self.shapes.items()
        }
        for i, (task, examples, rows) in enumerate(
            zip(self.tasks, self.parts, self.rows, strict=True)
        ):
            (here,) = (which == i).nonzero()
            if not len(here):
                continue
            found = examples.take(rows[where[here]])
            batch["task"][here] = self.numbers[i]
            names = {name: own for name, (_, _, own) in OWN[task.name].items()}
            for name, own in (names | {name: name for name in _SHARED if name in found}).items():
                batch[name][here] = found[own]
        return batch

    def _placed(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(which task, which of its rows), of each: int64 [B]."""
        if self.shares is None:
            return indices % len(self.tasks), indices // len(self.tasks)
        drawn = draws.bits(indices.astype(np.uint64), 2)
        ends = np.cumsum(self.shares)
        which = np.searchsorted(ends, (drawn[:, _WHICH] >> np.uint64(11)) * 2.0**-53, side="right")
        which = np.minimum(which, np.flatnonzero(self.shares)[-1])
        sizes = np.array([len(rows) for rows in self.rows], np.uint64)[which]
        return which, (drawn[:, _WHERE] % sizes).astype(np.int64)
