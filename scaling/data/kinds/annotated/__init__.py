"""Texts of which something is said: a label, tags, the answer to a question. What the kinds have in
common that give them: how texts are found, split, cut and written as rows of tokens.

A kind is a `Task` (`labelled`, `tagged`, `questions`); `record` makes a `Kind` of it.
"""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling.config.amounts import check_subset
from scaling.config.contracts import AT_LEAST_ONE, WITHIN, Facts, Kind, Shape
from scaling.data.kinds.annotated.texts import Found, Names
from scaling.data.kinds.text import exchanged
from scaling.data.kinds.text.fields import IDLE, Tokenized
from scaling.data.kinds.text.reading import matching
from scaling.data.kinds.text.rows import Rows, TokenRow
from scaling.data.kinds.text.source import stat
from scaling.data.kinds.text.tokenizers import chosen
from scaling.data.kinds.whole import WholeExamples
from scaling.data.store import key_of
from scaling.errors import ConfigError, SourceError


@dataclass(frozen=True)
class AnnotatedConfig(WholeExamples, Tokenized):
    """Where the texts come from, and how much of each there is room for."""

    source: str = ""
    seq_len: int = 128  # tokens of a row; what is longer is cut off
    validation_fraction: float = 0.1  # share held out, by the hash of the document or the text
    unique_examples: int | None = (
        None  # size of the nested training subset; None: the whole train split
    )
    classes: int | None = None  # labels or tags that there are; filled by resolve
    seed: int | None = None  # order of the examples; None: the run's seed
    corpus: str | None = None  # hash of all that decides the examples; filled by resolve


@dataclass(frozen=True)
class Task:
    """What a kind says of its texts."""

    config: type
    # Form of a source -> (what stands behind it, rows that texts are cut to, known labels or None,
    # folder) -> texts. Raises SourceError
    forms: dict[str, Callable[[str, Rows, Names | None, Path], Found]]
    files: frozenset[str]  # forms that may read a person's own files
    said: str  # the sources that there are, in messages
    own: dict[str, tuple[bool, str]]  # fields beside tokens: whether one a token, and its dtype
    weights: tuple[str, ...]
    counted: str  # the name, in `Facts.sizes`, of what a model's head is built for
    count: Callable[[Found], int]  # how many of them there are
    texts: Callable[[Found, int], tuple[bytes, ...]]  # that a row has of a numbered text
    # (texts, number, its row) -> the text's own fields, [1, L] or [1], filled in
    fill: Callable[[Found, int, TokenRow, dict[str, np.ndarray]], None]
    shown: Callable[[Found, int], str]  # in a line


# Part of every content hash: how a text is assigned to a split and written as tokens, those of
# others by what is told of them beside it.
_RULE = "bytes behind a separator; sha256 of the document < fraction; v1"


@dataclass(frozen=True)
class AnnotatedExamples:
    """The texts of a split, each a row of tokens."""

    task: Task
    found: Found
    rows: np.ndarray  # numbers of the texts: int64
    cut: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: np.ndarray, keys: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The numbered texts: `tokens`, `positions`, `segment_ids` int32 [B, L] (1: a token, 0:
        filled up) and the task's own fields. Nothing is drawn, so that `keys` change nothing.
        """
        del keys
        length = self.cut.length
        shape = (len(indices), length)
        batch = {name: np.zeros(shape, np.int32) for name in ("tokens", "segment_ids")}
        for name, (each, dtype) in self.task.own.items():
            batch[name] = np.zeros(shape if each else shape[:1], dtype)
        numbers = self.rows[indices].tolist()
        rows = self.cut.rows([self.task.texts(self.found, number) for number in numbers])
        for i, (number, row) in enumerate(zip(numbers, rows, strict=True)):
            batch["tokens"][i, : len(row.tokens)] = row.tokens
            batch["segment_ids"][i, : len(row.tokens)] = 1
            own = {name: batch[name][i : i + 1] for name in self.task.own}
            self.task.fill(self.found, number, row, own)
        batch["positions"] = np.tile(np.arange(length, dtype=np.int32), (len(indices), 1))
        return batch


def alone(found: Found, row: int) -> tuple[bytes, ...]:
    """A text in a row of its own."""
    start, end = found.bounds(row)
    return (found.text[start:end].tobytes(),)


def record(task: Task) -> Kind:
    """The kind of data of a task."""

    def rows(train: Any, root: Path) -> Rows:
        return Rows(chosen(train, root), train.seq_len)

    @functools.lru_cache(maxsize=8)
    def read(source: str, cut: Rows, known: Names | None, stamps: str, root: Path) -> Found:
        del stamps
        form, _, rest = source.partition(":")
        found = task.forms[form](rest, cut, known, root)
        if not len(found):
            raise SourceError(f'source "{source}" has nothing in it; point it to other files')
        return found

    def find(data: Any, train: Any, root: Path) -> Found:
        """The texts of `data`, with the labels of what is trained on. Raises SourceError."""
        form, _, rest = data.source.partition(":")
        if form not in task.forms:
            raise SourceError(f'source "{data.source}" is none of these texts; write {task.said}')
        stamps = ""
        if rest and form in task.files:
            stamps = key_of([stat(path) for path in matching(rest, data.source)])
        known = tuple(train.labels.split(",")) if getattr(train, "labels", None) else None
        if known is None and data.source != train.source:
            known = find(train, train, root).names
        return read(data.source, rows(train, root), known, stamps, root)

    def rows_of(found: Found, fraction: float, split: str) -> np.ndarray:
        if split == "all":
            return np.arange(len(found))
        held_out = found.groups < np.uint64(int(fraction * 2**64))
        return (held_out if split == "validation" else ~held_out).nonzero()[0]

    def content(data: Any, found: Found, cut: Rows) -> str:
        return key_of([found.content, data.validation_fraction, cut.key, _RULE])

    def facts(data: Any, train: Any, root: Path) -> Facts:
        """See `Kind.facts`. Raises SourceError."""
        found, cut = find(data, train, root), rows(train, root)
        counts = {
            split: len(rows_of(found, data.validation_fraction, split))
            for split in ("train", "validation")
        }
        for split, count in counts.items() if data.source == train.source else ():
            if not count:
                raise SourceError(
                    f'source "{data.source}": no text is in its {split} split; give more texts, or '
                    "change data.validation_fraction"
                )
        sizes = {"vocab": cut.tokenizer.vocab, task.counted: task.count(found)}
        return Facts(content(data, found, cut), counts["train"], counts["validation"], sizes)

    def resolve(data: Any, facts: Facts) -> Any:
        """See `Kind.resolve`. Raises ConfigError for a subset larger than the train split, or
        another number of labels.
        """
        check_subset(data, facts)
        classes = facts.sizes.get("classes", facts.sizes.get("tags"))
        if data.classes not in (None, classes):
            raise ConfigError(
                f"data.classes={data.classes}, but {data.source} has {classes}; leave it unset"
            )
        return dataclasses.replace(data, classes=classes)

    def examples(data: Any, train: Any, split: str, root: Path) -> AnnotatedExamples:
        """See `Kind.examples`. Raises SourceError where they are not those of `data.corpus`."""
        found, cut = find(data, train, root), rows(train, root)
        if data.corpus not in (None, now := content(data, found, cut)):
            raise SourceError(
                f"{data.corpus} is wanted, but {data.source} is now {now}: its files changed, or "
                "this is another version of Python or babel. Bring them back, or start a new run",
                "corpus",
            )
        return AnnotatedExamples(task, found, rows_of(found, data.validation_fraction, split), cut)

    def shapes(data: Any) -> dict[str, Shape]:
        row = (data.seq_len,)
        own = {n: (row if each else (), dtype) for n, (each, dtype) in task.own.items()}
        return {**dict.fromkeys(("tokens", "segment_ids", "positions"), (row, "int32")), **own}

    def shared(data: Any, split: str, train: Any, root: Path) -> int:
        """Texts of an evaluation split whose document is trained on."""
        ours, theirs = find(data, train, root), find(train, train, root)
        numbers = rows_of(ours, data.validation_fraction, split)
        trained_on = theirs.groups[rows_of(theirs, train.validation_fraction, "train")]
        return int(np.isin(ours.groups[numbers], trained_on).sum())

    def inspect(data: Any, lines: int, root: Path) -> tuple[str, dict[str, Any]]:
        found = find(data, data, root)
        said: dict[str, Any] = {"source": data.source, "names": list(found.names)}
        text = [f"{data.source}: {len(found):,} texts; {', '.join(found.names) or 'no labels'}"]
        for split in ("train", "validation"):
            numbers = rows_of(found, data.validation_fraction, split)
            shown = [task.shown(found, row) for row in numbers[:lines].tolist()]
            said[split] = {"texts": len(numbers), "first": shown}
            text += [f"{split}: {len(numbers):,} texts", *(f"  {one}" for one in shown)]
        return "\n".join(text), said

    return Kind(
        config=task.config,
        fields=frozenset({"tokens", "positions", *task.own}),
        asks=frozenset({"tokens"}),
        weights=task.weights,
        facts=facts,
        examples=examples,
        resolve=resolve,
        shapes=shapes,
        sizes=frozenset({task.counted}),
        shared=shared,
        about=lambda data, root: {
            "unique": len(rows_of(find(data, data, root), data.validation_fraction, "train"))
        },
        tokenizer=chosen,
        adopt=exchanged.adopt,
        idle=IDLE,
        inspect=inspect,
        ranges=(
            (("seq_len", "unique_examples", "classes"), AT_LEAST_ONE),
            (("validation_fraction",), WITHIN),
        ),
    )
