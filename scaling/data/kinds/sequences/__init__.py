"""Sequences of symbols that a known source makes: what is to be learned of them is known.

Chains of known entropy, associations, brackets, and prompts with one right answer (`TASKS`;
`docs/tasks.md` has a table). Nothing is stored: an example is a pure function of the task, the
split and its number, and there are as many as are asked for. The arrays are those of text, so that
language models train on them.
"""

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scaling.config.contracts import (
    AT_LEAST_ONE,
    ENDLESS,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    WITHIN,
    Facts,
    Kind,
    Shape,
    Truth,
)
from scaling.config.marks import added
from scaling.data import draws
from scaling.data.kinds.sequences.answers import Addition, Modular, Rewriting
from scaling.data.kinds.sequences.brackets import Dyck
from scaling.data.kinds.sequences.chains import HiddenMarkov, Markov
from scaling.data.kinds.sequences.memory import Associations
from scaling.data.kinds.sequences.own_chains import OwnChains
from scaling.data.kinds.sequences.task import Rows, Task
from scaling.data.store import key_of
from scaling.errors import ConfigError, SourceError, nearest


@dataclass(frozen=True)
class SequencesConfig:
    """A task and its sizes; a field that the task does not read stays at its default."""

    kind: Literal["sequences"] = "sequences"
    source: str = "markov"  # the task
    part: str | None = (
        None  # x2: twice the length, and of prompts none shorter than that; for evaluation sets
    )
    symbols: int = 16  # that sequences are made of; the base, or the modulus, of sums
    length: int = 32  # symbols of a row; of prompts and brackets, the most symbols or pairs
    zipf: float = 1.0  # the i-th symbol is i^-zipf times as frequent as the first
    contrast: float = (
        1.0  # std of the logarithms of what a chain's transitions are made of; 0: none
    )
    order: Literal[1, 2] = 1  # symbols that a Markov chain looks back
    states: int = 8  # of a hidden chain
    # Of the transitions of a row's own chain (Dirichlet): below 1 few symbols follow each, above
    # all alike
    concentration: float = added(1.0)
    answers: int = 16  # of associations
    train_share: float = 0.5  # of all sums modulo a number, in the train split
    examples: int | None = None  # rows of the train split; None: it has no end
    validation_examples: int = 2048  # of the validation split, drawn apart from it
    unique_symbols: int | None = (
        None  # size of the nested training subset, symbols; None: the whole train split
    )
    task_seed: int = 0  # of the task and of the rows
    seed: int | None = None  # order of the rows; None: the run's seed
    corpus: str | None = None  # hash of all that decides the rows; filled by resolve

    @property
    def unit(self) -> str:
        """What the amount of training is counted in: places of a row, whether they count or not."""
        return "symbol"

    @property
    def units_per_example(self) -> int:
        """Places of a row."""
        return task_of(self).places

    @property
    def unique_units(self) -> int | None:
        """Symbols of the nested training subset."""
        return self.unique_symbols


# ---- the tasks


def _markov(c: SequencesConfig, length: int) -> Task:
    return Markov(c.symbols, c.order, c.zipf, c.contrast, length, c.task_seed)


def _hidden(c: SequencesConfig, length: int) -> Task:
    return HiddenMarkov(c.symbols, c.states, c.zipf, c.contrast, length, c.task_seed)


def _own_chains(c: SequencesConfig, length: int) -> Task:
    return OwnChains(c.symbols, c.concentration, length, c.task_seed)


def _associations(c: SequencesConfig, length: int) -> Task:
    return Associations(c.symbols, c.answers, c.zipf, length, c.task_seed)


def _rewriting(how: str) -> Callable[[SequencesConfig, int], Task]:
    return lambda c, length: Rewriting(how, c.symbols, length, c.part is not None, c.task_seed)


def _addition(c: SequencesConfig, length: int) -> Task:
    return Addition(c.symbols, length, c.part is not None, c.task_seed)


# Name -> (config, length) -> task.
TASKS: dict[str, Callable[[SequencesConfig, int], Task]] = {
    "markov": _markov,
    "hidden_markov": _hidden,
    "own_chains": _own_chains,
    "associations": _associations,
    "copy": _rewriting("copy"),
    "reverse": _rewriting("reverse"),
    "sort": _rewriting("sort"),
    "addition": _addition,
    "dyck": lambda c, length: Dyck(c.symbols, length, c.task_seed),
    "modular": lambda c, length: Modular(c.symbols, c.train_share, c.task_seed),
}
# Fields that not every task reads.
_READ: dict[str, tuple[str, ...]] = {
    "zipf": ("markov", "hidden_markov", "associations"),
    "contrast": ("markov", "hidden_markov"),
    "order": ("markov",),
    "states": ("hidden_markov",),
    "concentration": ("own_chains",),
    "answers": ("associations",),
    "train_share": ("modular",),
    "length": tuple(name for name in TASKS if name != "modular"),
    "examples": tuple(name for name in TASKS if name != "modular"),
    "validation_examples": tuple(name for name in TASKS if name != "modular"),
}


def task_of(data: SequencesConfig) -> Task:
    """Raises SourceError for a task or a part that there is none of."""
    if data.source not in TASKS:
        raise SourceError(
            f'source "{data.source}" is no task of sequences{nearest(data.source, TASKS)}; write '
            f"one of {', '.join(TASKS)}"
        )
    times = re.fullmatch(r"x([1-9]\d?)", data.part or "x1")
    if times is None:
        raise SourceError(f'part "{data.part}" is no length; write x2 for twice the length', "part")
    return TASKS[data.source](data, data.length * int(times[1]))


# ---- the record


_RULE = "rows by key of (task, split) and number; v1"


def _counts(data: SequencesConfig) -> tuple[int, int]:
    """Rows of the train and the validation split."""
    return task_of(data).finite or (data.examples or ENDLESS, data.validation_examples)


def facts(data: SequencesConfig, train: SequencesConfig, root: Path) -> Facts:
    """See `Kind.facts`. Touches no file. Raises SourceError as `task_of`."""
    del train, root
    sizes = {"vocab": task_of(data).vocab}
    return Facts(_content(data), *_counts(data), sizes)


def _content(data: SequencesConfig) -> str:
    task: Any = task_of(data)
    return key_of([data.source, dataclasses.astuple(task), list(_counts(data)), _RULE])


@dataclass(frozen=True)
class SequenceExamples:
    """The rows of a split, or of several, one after the other."""

    task: Task
    splits: tuple[tuple[str, int], ...]  # names, and how many rows each has

    def __len__(self) -> int:
        return sum(count for _, count in self.splits)

    def take(self, indices: np.ndarray, keys: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The arrays of text [B, L] of the rows `indices` [B], the same each time: `keys` change
        nothing.

        `target_bytes` is 1 where a target counts: a symbol stands for a byte, and the bits per
        byte of a run are bits a symbol. `segment_ids` are there where a row's places are examples
        by themselves; `positions` are then 0.
        """
        del keys
        parts, places = list[Rows](), np.empty(len(indices), np.int64)
        for split, here, numbers in draws.by_split(self.splits, indices):
            places[here] = np.arange(len(here)) + sum(len(p.tokens) for p in parts)
            parts.append(self.task.draw(split, numbers))
        tokens, targets, counts = (
            np.concatenate([getattr(part, name) for part in parts])[places]
            for name in ("tokens", "targets", "counts")
        )
        offsets = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
        apart = parts[0].apart
        batch = {
            "tokens": tokens,
            "targets": targets,
            "positions": np.zeros(tokens.shape, np.int32) if apart else offsets.copy(),
            "loss_mask": counts,
            "target_bytes": counts.astype(np.int32),
        }
        return batch | {"segment_ids": offsets + 1} if apart else batch


def examples(
    data: SequencesConfig, train: SequencesConfig, split: str, root: Path
) -> SequenceExamples:
    """See `Kind.examples`; "all" is the validation split, then the train split. Raises SourceError
    where they are not those of `data.corpus`.
    """
    del train, root
    if data.corpus not in (None, found := _content(data)):
        raise SourceError(
            f"{data.corpus} is wanted, but the rows are now {found}: they are drawn in another "
            "way, or the config was changed; start a new run",
            "corpus",
        )
    of_train, of_validation = _counts(data)
    counts = {"validation": of_validation, "train": of_train}
    chosen = counts if split == "all" else {split: counts[split]}
    return SequenceExamples(task_of(data), tuple(chosen.items()))


def resolve(data: SequencesConfig, facts: Facts) -> SequencesConfig:
    """Nothing is left to fill in. Raises ConfigError for a `part` of the training data, and for a
    field that the task does not read.
    """
    del facts
    if data.part is not None:
        raise ConfigError(
            f"data.part={data.part}: a length is of evaluation sets; set data.length to train on it"
        )
    for name, tasks in _READ.items():
        default = SequencesConfig.__dataclass_fields__[name].default
        if data.source not in tasks and getattr(data, name) != default:
            raise ConfigError(
                f"data.{name}={getattr(data, name)} has no effect with data.source={data.source}; "
                f"it is read by {', '.join(tasks)}"
            )
    return data


def shapes(data: SequencesConfig) -> dict[str, Shape]:
    """See `Kind.shapes`."""
    places = (task_of(data).places,)
    names = ["tokens", "targets", "positions", "target_bytes"]
    names += ["segment_ids"] * (data.source == "associations")
    dtypes = dict.fromkeys(names, "int32") | {"loss_mask": "float32"}
    return {name: (places, dtype) for name, dtype in dtypes.items()}


def shared(data: SequencesConfig, split: str, train: SequencesConfig, root: Path) -> int:
    """Rows that training sees too: the train split of the same task, where it is evaluated. Rows
    that were drawn twice by chance are no more than what was trained on says.
    """
    del root
    same = task_of(data) == task_of(train)
    return min(_counts(data)[0], _counts(train)[0]) if same and split != "validation" else 0


def about(data: SequencesConfig, root: Path) -> dict[str, Any]:
    """See `Kind.about`: `unique`, the symbols of a train split that has an end."""
    del root
    rows = _counts(data)[0]
    return {} if rows >= ENDLESS else {"unique": rows * task_of(data).places}


def truth(data: SequencesConfig) -> Truth:
    """See `Kind.truth`."""
    return task_of(data).truth()


def _shortened(data: SequencesConfig, units: int) -> SequencesConfig:
    """With rows of at most so many symbols, and no less than one symbol's."""
    one, two = (task_of(dataclasses.replace(data, length=n)).places for n in (1, 2))
    if one == two:
        return data
    return dataclasses.replace(data, length=max(1, 1 + (units - one) // (two - one)))


_RANGES: Any = (
    (("symbols", "length", "states", "answers"), AT_LEAST_ONE),
    (("examples", "validation_examples", "unique_symbols"), AT_LEAST_ONE),
    (("zipf", "contrast"), NOT_NEGATIVE),
    (("train_share",), WITHIN),
    (("concentration",), POSITIVE),
    (("task_seed",), SEED),
)

KIND = Kind(
    config=SequencesConfig,
    fields=frozenset({"tokens", "targets", "positions", "loss_mask", "target_bytes"}),
    weights=("loss_mask", "target_bytes"),
    facts=facts,
    examples=examples,
    resolve=resolve,
    shapes=shapes,
    shared=shared,
    about=about,
    truth=truth,
    shortened=_shortened,
    ranges=_RANGES,
)
