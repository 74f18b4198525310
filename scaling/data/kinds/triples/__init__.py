"""A knowledge graph to be embedded: true triples (head, relation, tail), each by number.

Of the world's territories (`scaling/data/kinds/territories.py`). A row is a triple, with everything
else that is true of its head and relation, and of its relation and tail: what a rank is not to
count (Bordes et al. 2013, section 4.1, the filtered setting). The unit is the triple.
"""

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from scaling.config.amounts import check_subset
from scaling.config.contracts import AT_LEAST_ONE, SEED, WITHIN, Facts, Kind, Shape
from scaling.data import draws
from scaling.data.kinds.territories import RELATIONS, graph
from scaling.data.kinds.whole import WholeExamples
from scaling.data.store import key_of
from scaling.errors import ConfigError, SourceError


@dataclass(frozen=True)
class TriplesConfig(WholeExamples):
    """Which graph, and what of it is held out."""

    unit = "triple"
    UNIQUE = "unique_triples"

    kind: Literal["triples"] = "triples"
    source: str = "territories"
    validation_fraction: float = 0.1  # share of the triples held out, where all parts stay trained
    entities: int | None = None  # that there are; filled by resolve
    relations: int | None = None  # likewise
    unique_triples: int | None = None  # size of the nested training subset; None: all
    task_seed: int = 0  # of what is held out
    seed: int | None = None  # order of the triples; None: the run's seed
    corpus: str | None = None  # hash of all that decides the triples; filled by resolve


class _World(NamedTuple):
    triples: np.ndarray  # int32 [N, 3]
    entities: int
    content: str
    tails: dict[tuple[int, int], np.ndarray]  # of head and relation, all that are true
    heads: dict[tuple[int, int], np.ndarray]  # of relation and tail


@functools.lru_cache(maxsize=1)
def _world() -> _World:
    world = graph(one_value=False)
    return _World(
        world.triples,
        len(world.entities),
        world.content,
        _by(world.triples[:, :2], world.triples[:, 2]),
        _by(world.triples[:, 1:], world.triples[:, 0]),
    )


def _by(pairs: np.ndarray, ends: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    found: dict[tuple[int, int], list[int]] = {}
    for (first, second), end in zip(pairs.tolist(), ends.tolist(), strict=True):
        found.setdefault((first, second), []).append(end)
    return {pair: np.array(ends) for pair, ends in found.items()}


@functools.lru_cache(maxsize=8)
def _split(fraction: float, seed: int) -> dict[str, np.ndarray]:
    """The numbers of the triples of a split. A triple is held out in the order of its draw, up to
    the share, unless it is the last that is left of an entity or a relation: of those that are
    never trained on nothing can be said.
    """
    triples = _world().triples
    order = np.argsort(draws.folded(draws.key("held out triples", seed), np.arange(len(triples))))
    left = np.bincount(triples[:, [0, 2]].ravel(), minlength=_world().entities)
    of_relation = np.bincount(triples[:, 1], minlength=len(RELATIONS))
    held: list[int] = []
    for number in order.tolist():
        head, relation, tail = triples[number]
        enough = left[head] > 1 + (head == tail) and left[tail] > 1 and of_relation[relation] > 1
        if enough and len(held) < round(fraction * len(triples)):
            held.append(number)
            left[head] -= 1
            left[tail] -= 1
            of_relation[relation] -= 1
    chosen = np.zeros(len(triples), bool)
    chosen[held] = True
    return {
        "train": (~chosen).nonzero()[0],
        "validation": chosen.nonzero()[0],
        "all": np.arange(len(triples)),
    }


def _content(data: TriplesConfig) -> str:
    if data.source != "territories":
        raise SourceError(f'source "{data.source}" is no graph; write territories')
    return key_of([_world().content, data.validation_fraction, data.task_seed, "v1"])


def facts(data: TriplesConfig, train: TriplesConfig, root: Path) -> Facts:
    """See `Kind.facts`. Raises SourceError."""
    del train, root
    content, split = _content(data), _split(data.validation_fraction, data.task_seed)
    counts = len(split["train"]), len(split["validation"])
    if not counts[1]:
        raise SourceError("no triple is held out; raise data.validation_fraction")
    return Facts(content, *counts, {"entities": _world().entities, "relations": len(RELATIONS)})


@dataclass(frozen=True)
class TripleExamples:
    """The triples of a split."""

    numbers: np.ndarray  # int64

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, indices: np.ndarray, keys: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """head, relation and tail, int32 [B]; true_heads and true_tails, 1 for each entity that
        makes a true triple of any split with the other two, int8 [B, E]; weight [B]. Nothing is
        drawn, so that `keys` change nothing.
        """
        del keys
        world = _world()
        triples = world.triples[self.numbers[indices]]
        true = {
            name: np.zeros((len(indices), world.entities), np.int8)
            for name in ("true_heads", "true_tails")
        }
        for row, (head, relation, tail) in enumerate(triples.tolist()):
            true["true_heads"][row, world.heads[relation, tail]] = 1
            true["true_tails"][row, world.tails[head, relation]] = 1
        columns = zip(("head", "relation", "tail"), triples.T, strict=True)
        ends = {name: np.ascontiguousarray(column) for name, column in columns}
        return {**ends, **true, "weight": np.ones(len(indices), np.float32)}


def examples(data: TriplesConfig, train: TriplesConfig, split: str, root: Path) -> TripleExamples:
    """See `Kind.examples`. Raises SourceError where they are not those of `data.corpus`."""
    del train, root
    if data.corpus not in (None, found := _content(data)):
        raise SourceError(
            f"{data.corpus} is wanted, but the triples are now {found}: this is another version of "
            "babel, or the config was changed; start a new run",
            "corpus",
        )
    return TripleExamples(_split(data.validation_fraction, data.task_seed)[split])


def resolve(data: TriplesConfig, facts: Facts) -> TriplesConfig:
    """Entities and relations. Raises ConfigError for a subset larger than the train split, or other
    numbers of them than there are.
    """
    check_subset(data, facts)
    known: dict[str, Any] = {name: facts.sizes[name] for name in ("entities", "relations")}
    for name, count in known.items():
        if getattr(data, name) not in (None, count):
            raise ConfigError(
                f"data.{name}={getattr(data, name)}, but {data.source} has {count}; leave it unset"
            )
    return replace(data, **known)


def shapes(data: TriplesConfig) -> dict[str, Shape]:
    """See `Kind.shapes`."""
    entities = data.entities or _world().entities
    return {
        **dict.fromkeys(("head", "relation", "tail"), ((), "int32")),
        **dict.fromkeys(("true_heads", "true_tails"), ((entities,), "int8")),
        "weight": ((), "float32"),
    }


def shared(data: TriplesConfig, split: str, train: TriplesConfig, root: Path) -> int:
    """Triples of an evaluation split that are trained on."""
    del root
    ours = _split(data.validation_fraction, data.task_seed)[split]
    theirs = _split(train.validation_fraction, train.task_seed)["train"]
    return int(np.isin(ours, theirs).sum())


_RANGES: Any = (
    (("entities", "relations", "unique_triples"), AT_LEAST_ONE),
    (("validation_fraction",), WITHIN),
    (("task_seed",), SEED),
)

KIND = Kind(
    config=TriplesConfig,
    fields=frozenset({"head", "relation", "tail", "true_heads", "true_tails", "weight"}),
    weights=("weight",),
    asks=frozenset({"head", "relation", "tail"}),
    facts=facts,
    examples=examples,
    resolve=resolve,
    shapes=shapes,
    shared=shared,
    about=lambda data, root: {
        "unique": len(_split(data.validation_fraction, data.task_seed)["train"])
    },
    ranges=_RANGES,
)
