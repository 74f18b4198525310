"""What a source of facts gives, and which facts stand before a question.

`__init__.py` takes `Asked` of a source; the sources are beside this file.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from scaling.data import draws

# Of evaluation sets: with nothing before the question, with the fact itself among what was
# retrieved, or without it.
CLOSED, RIGHT, WRONG = "closed", "right", "wrong"


@dataclass(frozen=True)
class Retrieval:
    """Facts that stand before each question."""

    count: int  # 0: none
    misses: float  # share of the questions whose fact is not among them


@dataclass(frozen=True)
class Asked:
    """Rows of facts."""

    stream: np.ndarray  # int32 [B, 1 + L]: what is read, and shifted by one what is predicted
    counts: np.ndarray  # float32 [B, L]: 1 where the prediction is of the fact
    prior_bits: np.ndarray  # float32 [B]: of that, to one who knows how facts are drawn
    fact_bits: np.ndarray  # float32 [B]: those that knowing every fact takes away


class Source(Protocol):
    """Facts by number."""

    parts: ClassVar[tuple[str, ...]]  # that evaluation sets may ask for, beside those of retrieval

    @property
    def vocab(self) -> int:
        """Tokens that there are."""

    @property
    def counts(self) -> tuple[int, int]:
        """Facts of the train and the validation split."""

    @property
    def identity(self) -> list[object]:
        """All that decides the facts."""

    def places(self, retrieved: int) -> int:
        """L, with so many facts before the question."""

    def ask(
        self,
        split: str,
        numbers: np.ndarray,
        part: str | None,
        before: Retrieval,
        keys: np.ndarray | None,
    ) -> Asked:
        """The numbered facts [B] of a split. `keys` uint64 [B] decide what is drawn anew each time;
        None: of a fact always the same.
        """

    def entropy(self, before: Retrieval) -> tuple[float, float] | None:
        """(nats a place that counts of the validation split, to one who knows how facts are drawn,
        its standard error); None where nobody knows.
        """


def retrieval(count: int, misses: float, part: str | None) -> Retrieval:
    """Of a row: what the data say, but for the parts that settle it."""
    if part == CLOSED:
        return Retrieval(0, 0.0)
    return Retrieval(count, {RIGHT: 0.0, WRONG: 1.0}.get(part or "", misses))


def retrieved(
    before: Retrieval, keys: np.ndarray, numbers: np.ndarray, first: np.ndarray, pool: np.ndarray
) -> np.ndarray:
    """The numbers of the facts before each question: int64 [B, count].

    The one asked for is at any place among others of its pool, which are the `pool` [B] facts from
    `first` [B] on, all of them different from it.
    """
    count = before.count
    drawn = draws.whole(keys, count + 2, 2**53)
    steps = 1 + drawn[:, :count] % np.maximum(1, pool - 1)[:, None]
    others = first[:, None] + ((numbers - first)[:, None] + steps) % pool[:, None]
    place, chance = drawn[:, count] % max(1, count), drawn[:, count + 1]
    right = chance < (1 - before.misses) * 2**53
    here = right[:, None] & (np.arange(count) == place[:, None])
    return np.where(here, numbers[:, None], others)
