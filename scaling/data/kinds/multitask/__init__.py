"""Several tasks on text, a row of a batch each of one of them: a label, tags, the answer to a
question, hidden tokens. The unit is the example, the tokens are bytes.

Every task is a kind of its own, whose texts, splits and rows these are; `mixed.py` says which rows
a batch has. There is no last example: a row's task is drawn by its share, its example evenly.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scaling.config.contracts import (
    AT_LEAST_ONE,
    ENDLESS,
    POSITIVE_OR_OFF,
    WITHIN,
    Facts,
    Kind,
    Shape,
)
from scaling.data.kinds.multitask.mixed import OWN, Mixed, Task, shares, task_names
from scaling.data.kinds.whole import WholeExamples
from scaling.data.order import nested
from scaling.data.store import key_of
from scaling.errors import ConfigError, SourceError


@dataclass(frozen=True)
class MultitaskConfig(WholeExamples):
    """Which tasks there are, and how much of each (`docs/data.md`)."""

    UNIQUE = None  # `unique_examples` is of each task

    kind: Literal["multitask"] = "multitask"
    # Task=source of each, with commas: a kind and what its `source` is
    source: str = "labelled=packages,tagged=tokens,questions=parameters,text=stdlib"
    part: str | None = None  # the task that all rows are of; None: of all
    weights: str | None = None  # of each task, in the order of `source`: "1,1,2"; None: equal
    temperature: float | None = (
        None  # a task's share goes by its examples to the power of 1 / this; None: by `weights`
    )
    seq_len: int = 128  # tokens of a row; what is longer is cut off
    validation_fraction: float = 0.1  # share held out, by the hash of the document or the text
    unique_examples: int | None = (
        None  # size of the nested training subset of each task; None: the whole train split
    )
    sizes: str | None = None  # training examples of each task; filled by resolve
    seed: int | None = None  # order of the examples; None: the run's seed
    corpus: str | None = None  # hash of all that decides the examples; filled by resolve


_RULE = "shares of tasks; v1"  # part of every content hash


def _facts(data: MultitaskConfig, train: MultitaskConfig, root: Path) -> Facts:
    """See `Kind.facts`. Raises SourceError."""
    sizes: dict[str, int] = {"several": len(task_names(data))}
    hashes, validation = [], []
    for task in _tasks(data):
        found = task.kind.facts(task.data, _trained(task, train), root)
        sizes |= found.sizes if task.name != "text" else {"masked": 1}
        sizes |= {f"task {task.name}": found.train_examples}
        hashes.append([task.name, found.content_hash])
        validation.append(found.validation_examples)
    content = key_of([hashes, _RULE])
    return Facts(content, ENDLESS, len(hashes) * min(validation), sizes)


def _tasks(data: MultitaskConfig) -> list[Task]:
    """Those that rows are of. Raises SourceError for a source or a part that is none."""
    names = task_names(data)
    if data.part not in (None, *names):
        raise SourceError(
            f'"{data.part}" is no task of "{data.source}"; give one of {", ".join(names)}', "part"
        )
    return [task for task in Task.all(data) if data.part in (None, task.name)]


def _trained(task: Task, train: MultitaskConfig) -> Any:
    """The data of the same task that are trained on."""
    return next((one.data for one in Task.all(train) if one.name == task.name), task.data)


def _prepared(task: Task, train: MultitaskConfig, root: Path) -> tuple[Any, Any]:
    """The data of a task, and those of it that are trained on, by the hashes of what is there."""
    trained = _trained(task, train)
    ours, theirs = (
        dataclasses.replace(one, corpus=task.kind.facts(one, trained, root).content_hash)
        for one in (task.data, trained)
    )
    return ours, theirs


def _resolve(data: MultitaskConfig, facts: Facts) -> MultitaskConfig:
    """`sizes` filled in. Raises ConfigError for shares that are none, and a subset that is larger
    than what there is.
    """
    sizes = []
    for name in task_names(data):
        there = facts.sizes.get(f"task {name}", 0)
        if data.unique_examples is not None and there and data.unique_examples > there:
            raise ConfigError(
                f"data.unique_examples={data.unique_examples} is more than the train split of "
                f"{name} has ({there} examples)"
            )
        sizes.append(min(there, data.unique_examples or there))
    filled = dataclasses.replace(data, sizes=",".join(map(str, sizes)))
    shares(filled)
    return filled


def _examples(data: MultitaskConfig, train: MultitaskConfig, split: str, root: Path) -> Mixed:
    """See `Kind.examples`. Raises SourceError where they are not those of `data.corpus`."""
    tasks = _tasks(data)
    if data.corpus not in (None, now := _facts(data, train, root).content_hash):
        raise SourceError(
            f"{data.corpus} is wanted, but {data.source} is now {now}: its files changed, or "
            "this is another version of Python. Bring them back, or start a new run",
            "corpus",
        )
    parts, rows = [], []
    for task in tasks:
        examples = task.kind.examples(*_prepared(task, train, root), split, root)
        parts.append(examples)
        subset = data.unique_examples if split == "train" else None
        rows.append(nested(len(examples))[:subset])
    names = task_names(data)
    chosen = [names.index(task.name) for task in tasks]
    share = tuple(shares(data)[i] for i in chosen) if split == "train" else None
    return Mixed(tuple(tasks), tuple(chosen), tuple(parts), tuple(rows), share, _shapes(data))


def _shapes(data: MultitaskConfig) -> dict[str, Shape]:
    """See `Kind.shapes`: the fields of every task, be it there or not."""
    row = (data.seq_len,)
    found: dict[str, Shape] = dict.fromkeys(
        ("tokens", "positions", "segment_ids", "token_types"), (row, "int32")
    )
    for fields in OWN.values():
        found |= {name: (row if each else (), dtype) for name, (each, dtype, _) in fields.items()}
    return {**found, "task": ((), "int32")}


def _shared(data: MultitaskConfig, split: str, train: MultitaskConfig, root: Path) -> int:
    """Examples of an evaluation split whose document is trained on, by the same task."""
    found = 0
    for task in _tasks(data):
        ours, theirs = _prepared(task, train, root)
        found += task.kind.shared(ours, split, theirs, root)
    return found


def _about(data: MultitaskConfig, root: Path) -> Mapping[str, Any]:
    del root
    return {"unique": sum(map(int, data.sizes.split(",")))} if data.sizes else {}


_WEIGHTS = ("label_weight", "tags_weight", "answer_weight", "token_weight")

KIND = Kind(
    config=MultitaskConfig,
    fields=frozenset(_shapes(MultitaskConfig())),
    weights=_WEIGHTS,
    facts=_facts,
    examples=_examples,
    resolve=_resolve,
    shapes=_shapes,
    sizes=frozenset({"several"}),
    shared=_shared,
    about=lambda data, root: dict(_about(data, root)),
    shortened=lambda data, units: dataclasses.replace(data, seq_len=units),
    ranges=(
        (("seq_len", "unique_examples"), AT_LEAST_ONE),
        (("validation_fraction",), WITHIN),
        (("temperature",), POSITIVE_OR_OFF),
    ),
)

__all__ = ["KIND", "MultitaskConfig"]
