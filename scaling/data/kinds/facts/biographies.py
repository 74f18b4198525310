"""People who are made up: a name each, and attributes drawn evenly, so that the bits that there are
to be known of them are known exactly (Allen-Zhu and Li 2024, arXiv 2404.05405, section 2).

A person is a pure function of seed and number. Nothing is stored, and no two have one name.
`__init__.py` asks for rows and for what they hold.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from scaling.data import draws
from scaling.data.kinds.facts.asked import Asked, Retrieval, retrieved

_ROUNDS = 6


@dataclass(frozen=True)
class Biographies:
    """Names of `name_tokens` symbols, all different, and `attributes` values, one symbol each.

    It is the paper's bioD with values of one chunk of one token, whose diversity is `values`.
    """

    people: int  # that are told of
    strangers: int  # who are told of nowhere: the last names that there are
    symbols: int  # of names
    name_tokens: int
    attributes: int
    values: int  # that an attribute can have
    seed: int
    parts: ClassVar[tuple[str, ...]] = ("names", "values")

    @property
    def names(self) -> int:
        """Names that there are, of which each person has one."""
        return self.symbols**self.name_tokens

    @property
    def vocab(self) -> int:
        """Symbols, those of values among them, and the mark that a person begins with."""
        return max(self.symbols, self.values) + 1

    @property
    def counts(self) -> tuple[int, int]:
        """See `Source`."""
        return self.people, self.strangers

    @property
    def identity(self) -> list[object]:
        """See `Source`."""
        return ["biographies", *dataclasses.astuple(self), "v1"]

    def places(self, retrieved: int) -> int:
        """A name and values; before them whole people, a mark before each."""
        each = self.name_tokens + self.attributes
        return each + retrieved * (each + 1)

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """The people [B], each a mark, a name and values: int64 [B, 1 + places]."""
        name = _shuffled(numbers.astype(np.uint64), self.names, self.seed)
        powers = np.uint64(self.symbols) ** np.arange(self.name_tokens, dtype=np.uint64)
        letters = (name[:, None] // powers[None, ::-1]) % np.uint64(self.symbols)
        keys = draws.folded(draws.key("biographies", self.seed), numbers)
        values = draws.whole(keys, self.attributes, self.values)
        mark = np.full((len(numbers), 1), self.vocab - 1, np.int64)
        return np.concatenate([mark, letters.astype(np.int64), values], axis=1)

    def ask(
        self,
        split: str,
        numbers: np.ndarray,
        part: str | None,
        before: Retrieval,
        keys: np.ndarray | None,
    ) -> Asked:
        """See `Source`: names and values, or the part of them; of people who were looked up, values
        alone, as the name is the question.
        """
        if split != "train":
            numbers = self.names - 1 - numbers
        rows = self.rows(numbers)
        named, valued = self._counted(part, before)
        counts = np.repeat(
            np.array([named, valued], np.float32), [self.name_tokens, self.attributes]
        )
        if before.count:
            if keys is None:
                keys = draws.folded(draws.key("retrieved", self.seed), numbers)
            first, pool = np.zeros_like(numbers), np.full_like(numbers, self.people)
            found = retrieved(before, keys, numbers, first, pool)
            told = self.rows(found.ravel()).reshape(len(numbers), -1)
            rows = np.concatenate([told, rows], axis=1)
            counts = np.concatenate([np.zeros(told.shape[1], np.float32), counts])
        prior, held = self.bits(named, valued)
        size = len(numbers)
        return Asked(
            rows.astype(np.int32),
            np.tile(counts, (size, 1)),
            np.full(size, prior, np.float32),
            np.full(size, held, np.float32),
        )

    def _counted(self, part: str | None, before: Retrieval) -> tuple[bool, bool]:
        """Whether names and values count."""
        values_only = part not in (None, "names") or before.count > 0
        return not values_only, part != "names"

    def bits(self, named: bool = True, valued: bool = True) -> tuple[float, float]:
        """(bits of a person, or of name or values alone, to one who knows how people are drawn;
        bits of it that all there is to know takes away).

        Of N people among N0 names one is log2 N0 bits before, and log2 N after everybody is known:
        which of them the row tells of (the paper's theorem 3.2 and its R_max).
        """
        before = named * math.log2(self.names) + valued * self.attributes * math.log2(self.values)
        return before, before - named * math.log2(self.people)

    def entropy(self, before: Retrieval) -> tuple[float, float] | None:
        """See `Source`: a stranger is drawn as everybody. What is looked up of one says all, and
        how many are missed is up to chance.
        """
        named, valued = self._counted(None, before)
        places = named * self.name_tokens + valued * self.attributes
        nats = self.bits(named, valued)[0] * math.log(2) / places
        unknown = before.misses if before.count else 1.0
        return unknown * nats, math.sqrt(unknown * (1 - unknown) / self.strangers) * nats


def _shuffled(numbers: np.ndarray, count: int, seed: int) -> np.ndarray:
    """A bijection of range(count) that looks drawn: uint64 of the numbers' shape.

    A Feistel network on the next even number of bits (Luby and Rackoff 1988), walked along until it
    falls inside (Black and Rogaway 2002, cycle walking).
    """
    half = max(1, math.ceil(math.log2(max(count, 2)) / 2))
    mask, keys = np.uint64(2**half - 1), [draws.key("names", seed, i) for i in range(_ROUNDS)]
    numbers = numbers.copy()
    outside = np.ones(numbers.shape, bool)
    while outside.any():
        left, right = numbers[outside] >> np.uint64(half), numbers[outside] & mask
        for key in keys:
            left, right = right, left ^ (draws.folded(key, right) & mask)
        numbers[outside] = (left << np.uint64(half)) | right
        outside = numbers >= np.uint64(count)
    return numbers
