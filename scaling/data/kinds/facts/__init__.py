"""Facts that a language model is to know by heart, or to read off what stands before the question.

People who are made up, of exactly known bits (`biographies.py`), and true facts of the world's
territories (`told.py`). A row is a fact; the arrays are those of text, with the bits that a row's
fact holds. Evaluation sets ask by `part`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scaling.config.amounts import check_subset
from scaling.config.contracts import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    SEED,
    SHARE,
    WITHIN,
    Facts,
    Kind,
    Shape,
    Truth,
)
from scaling.data import draws
from scaling.data.kinds.facts import asked
from scaling.data.kinds.facts.asked import CLOSED, RIGHT, WRONG, Source
from scaling.data.kinds.facts.biographies import Biographies
from scaling.data.kinds.facts.told import Told
from scaling.data.kinds.text.tokenizers import ByteTokenizer
from scaling.data.kinds.whole import WholeExamples
from scaling.data.store import key_of
from scaling.errors import ConfigError, SourceError, nearest


@dataclass(frozen=True)
class FactsConfig(WholeExamples):
    """Which facts, and how a model meets them; a field that the source does not read stays at its
    default.
    """

    kind: Literal["facts"] = "facts"
    source: str = "biographies"  # or territories
    # Of evaluation sets: a part of what the source has; closed, right or wrong: with nothing before
    # the question, with the fact itself among what was retrieved, or without it
    part: str | None = None
    people: int = 1024  # who are told of
    strangers: int = 256  # who are told of nowhere: the validation split
    symbols: int = 64  # that names are made of
    name_tokens: int = 3  # symbols of a name
    attributes: int = 8  # of a person
    values: int = 64  # that an attribute can have
    held_out: float = 0.2  # share of the territories' facts that training tells, but does not ask
    retrieved: int = 0  # facts that stand before the question
    misses: float = 0.0  # share of questions whose fact is not among those retrieved
    unique_examples: int | None = None  # size of the nested training subset; None: all
    task_seed: int = 0  # of the people, and of what is held out
    seed: int | None = None  # order of the rows; None: the run's seed
    corpus: str | None = None  # hash of all that decides the rows; filled by resolve


def _biographies(c: FactsConfig) -> Source:
    """Raises ConfigError for more people than names."""
    found = Biographies(
        *(c.people, c.strangers, c.symbols, c.name_tokens),
        *(c.attributes, c.values, c.task_seed),
    )
    if c.people + c.strangers > found.names:
        raise ConfigError(
            f"data.people={c.people} and data.strangers={c.strangers} are more than the "
            f"{found.names} names of data.name_tokens={c.name_tokens}; raise that, or data.symbols"
        )
    return found


# Name -> (what makes it of a config, the fields that it reads).
_PERSON = ("people", "strangers", "symbols", "name_tokens", "attributes", "values")
_SOURCES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "biographies": (_biographies, _PERSON),
    "territories": (lambda c: Told(c.held_out, c.task_seed), ("held_out",)),
}


def source_of(data: FactsConfig) -> Source:
    """Raises SourceError for a source or a part that there is none of."""
    if data.source not in _SOURCES:
        raise SourceError(
            f'source "{data.source}" is none of facts{nearest(data.source, _SOURCES)}; write '
            f"{' or '.join(_SOURCES)}"
        )
    source: Source = _SOURCES[data.source][0](data)
    parts = (CLOSED, RIGHT, WRONG) if data.retrieved else (*source.parts, CLOSED)
    if data.part is not None and data.part not in parts:
        raise SourceError(
            f'part "{data.part}" is none of {", ".join(parts)}{nearest(data.part, parts)}, of '
            f"data.retrieved={data.retrieved}",
            "part",
        )
    return source


def _content(data: FactsConfig) -> str:
    return key_of([*source_of(data).identity, data.retrieved, data.misses])


def facts(data: FactsConfig, train: FactsConfig, root: Path) -> Facts:
    """See `Kind.facts`. Touches no file of its own. Raises SourceError."""
    del train, root
    source = source_of(data)
    return Facts(_content(data), *source.counts, {"vocab": source.vocab})


@dataclass(frozen=True)
class FactExamples:
    """The facts of a split, or of several, one after the other."""

    data: FactsConfig
    splits: tuple[tuple[str, int], ...]  # names, and how many rows each has

    def __len__(self) -> int:
        return sum(count for _, count in self.splits)

    def take(self, indices: np.ndarray, keys: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The arrays of text [B, L] of the facts `indices` [B], and [B] `prior_bits` and
        `fact_bits`: those of the places that count, and how many of them can be known. `keys`
        decide what is drawn anew; without, a row is the same each time.
        """
        source, part = source_of(self.data), self.data.part
        before = asked.retrieval(self.data.retrieved, self.data.misses, part)
        shape = (len(indices), source.places(before.count))
        names = ("tokens", "targets", "target_bytes")
        batch: dict[str, np.ndarray] = {name: np.zeros(shape, np.int32) for name in names}
        batch["positions"] = np.tile(np.arange(shape[1], dtype=np.int32), (len(indices), 1))
        batch["loss_mask"] = np.zeros(shape, np.float32)
        batch |= {name: np.zeros(shape[0], np.float32) for name in ("prior_bits", "fact_bits")}
        for split, here, numbers in draws.by_split(self.splits, indices):
            rows = source.ask(split, numbers, part, before, None if keys is None else keys[here])
            batch["tokens"][here], batch["targets"][here] = rows.stream[:, :-1], rows.stream[:, 1:]
            batch["loss_mask"][here], batch["target_bytes"][here] = rows.counts, rows.counts
            batch["prior_bits"][here] = rows.prior_bits
            batch["fact_bits"][here] = rows.fact_bits
        return batch


def examples(data: FactsConfig, train: FactsConfig, split: str, root: Path) -> FactExamples:
    """See `Kind.examples`. Raises SourceError where they are not those of `data.corpus`."""
    del train, root
    if data.corpus not in (None, found := _content(data)):
        raise SourceError(
            f"{data.corpus} is wanted, but the facts are now {found}: they are drawn in another "
            "way, this is another version of babel, or the config was changed; start a new run",
            "corpus",
        )
    of_train, of_validation = source_of(data).counts
    counts = {"validation": of_validation, "train": of_train}
    chosen = counts if split == "all" else {split: counts[split]}
    return FactExamples(data, tuple(chosen.items()))


def resolve(data: FactsConfig, facts: Facts) -> FactsConfig:
    """Nothing is left to fill in. Raises ConfigError for a `part` of the training data, a field
    that the source does not read, and a subset larger than the train split.
    """
    check_subset(data, facts)
    if data.part is not None:
        raise ConfigError(f"data.part={data.part} is of evaluation sets; leave it unset")
    for source, (_, fields) in _SOURCES.items():
        for name in fields:
            default = FactsConfig.__dataclass_fields__[name].default
            if source != data.source and getattr(data, name) != default:
                raise ConfigError(
                    f"data.{name}={getattr(data, name)} has no effect with data.source="
                    f"{data.source}; it is read by {source}"
                )
    if data.misses and not data.retrieved:
        raise ConfigError(
            f"data.misses={data.misses} has no effect where nothing is retrieved; set "
            "data.retrieved, or leave it at 0"
        )
    return data


def shapes(data: FactsConfig) -> dict[str, Shape]:
    """See `Kind.shapes`."""
    before = asked.retrieval(data.retrieved, data.misses, data.part)
    row = (source_of(data).places(before.count),)
    ints = ("tokens", "targets", "positions", "target_bytes")
    return {
        **dict.fromkeys(ints, (row, "int32")),
        "loss_mask": (row, "float32"),
        **dict.fromkeys(("prior_bits", "fact_bits"), ((), "float32")),
    }


def shared(data: FactsConfig, split: str, train: FactsConfig, root: Path) -> int:
    """Facts of an evaluation split that training tells in the same form."""
    del root
    same = source_of(data).identity == source_of(train).identity
    return source_of(data).counts[0] if same and split != "validation" else 0


def truth(data: FactsConfig) -> Truth | None:
    """See `Kind.truth`: of people who are told of nowhere nothing can be known but how people are
    drawn, and what was retrieved.
    """
    before = asked.retrieval(data.retrieved, data.misses, data.part)
    known = source_of(data).entropy(before)
    if known is None:
        return None
    return Truth("entropy of the source, exact", floor=known[0], floor_error=known[1])


def _tokenizer(data: FactsConfig, root: Path) -> ByteTokenizer:
    """Of facts that are text. Raises ConfigError for people, who are numbers."""
    del root
    if data.source != "territories":
        raise ConfigError(
            f"data.source={data.source} is made of numbers, which no text stands for; train on "
            "territories"
        )
    return ByteTokenizer()


_RANGES: Any = (
    (_PERSON, AT_LEAST_ONE),
    (("unique_examples",), AT_LEAST_ONE),
    (("retrieved",), NOT_NEGATIVE),
    (("held_out",), WITHIN),
    (("misses",), SHARE),
    (("task_seed",), SEED),
)

KIND = Kind(
    config=FactsConfig,
    fields=frozenset(
        {"tokens", "targets", "positions", "loss_mask", "target_bytes", "prior_bits", "fact_bits"}
    ),
    weights=("loss_mask", "target_bytes"),
    facts=facts,
    examples=examples,
    resolve=resolve,
    shapes=shapes,
    shared=shared,
    about=lambda data, root: {"unique": source_of(data).counts[0]},
    truth=truth,
    tokenizer=_tokenizer,
    ranges=_RANGES,
)
