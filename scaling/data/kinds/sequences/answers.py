"""A prompt and its one right answer: copies, reversals, sorted symbols, sums, sums modulo a prime.

A row is the prompt, a mark "=", the answer, and a mark for its end, which fills the row up; only
the answer and its end count. Lengths are drawn anew for each row, up to the task's.
"""

from dataclasses import dataclass

import numpy as np

from scaling.config.contracts import Truth
from scaling.data import draws
from scaling.data.kinds.sequences.task import Rows, keys_of, shifted
from scaling.data.order import permutation

_EXACT = "exact: a prompt has one answer"


@dataclass(frozen=True)
class Rewriting:
    """Symbols, and the same copied, reversed or sorted."""

    how: str  # "copy", "reverse" or "sort"
    symbols: int
    length: int  # symbols of a prompt, at most
    whole: bool  # every prompt is as long as that
    seed: int
    finite = None

    @property
    def vocab(self) -> int:
        """Symbols and two marks."""
        return self.symbols + 2

    @property
    def places(self) -> int:
        """Prompt, mark, answer."""
        return 2 * self.length + 1

    def draw(self, split: str, indices: np.ndarray) -> Rows:
        """Prompts of evenly drawn lengths and symbols."""
        keys = keys_of(self.how, self.seed, split, indices)
        prompt, lengths = _prompts(keys, self.symbols, self.length, self.whole)
        places = np.arange(self.length)
        if self.how == "reverse":
            back = np.maximum(lengths[:, None] - 1 - places, 0)
            answer = np.take_along_axis(prompt, back, axis=1)
        elif self.how == "sort":
            inside = places < lengths[:, None]
            answer = np.sort(np.where(inside, prompt, self.symbols), axis=1)
        else:
            answer = prompt
        return rows_of(prompt, lengths, answer, lengths, self.symbols)

    def truth(self) -> Truth:
        """Nothing is left to chance."""
        return Truth(_EXACT, floor=0.0)


@dataclass(frozen=True)
class Addition:
    """Two numbers and their sum, least digits first."""

    symbols: int  # the base
    length: int  # digits of each number, at most
    whole: bool
    seed: int
    finite = None

    @property
    def vocab(self) -> int:
        """Digits, the two marks, and "+"."""
        return self.symbols + 3

    @property
    def places(self) -> int:
        """Two numbers, "+", "=", and a sum of a digit more."""
        return 3 * self.length + 3

    def draw(self, split: str, indices: np.ndarray) -> Rows:
        """Numbers of one length, digits even."""
        keys = keys_of("addition", self.seed, split, indices)
        size, base = self.length, self.symbols
        digits, lengths = _prompts(keys, base, 2 * size, True)[0], _lengths(keys, size, self.whole)
        inside = np.arange(size) < lengths[:, None]
        first, second = (np.where(inside, part, 0) for part in (digits[:, :size], digits[:, size:]))
        total = np.zeros((len(keys), size + 1), np.int64)
        for place in range(size):
            total[:, place] += first[:, place] + second[:, place]
            total[:, place + 1] = total[:, place] // base
            total[:, place] %= base
        places = np.arange(2 * size + 1)
        which = np.where(places < lengths[:, None], places, places - lengths[:, None] - 1 + size)
        which = np.clip(which, 0, 2 * size - 1)
        prompt = np.take_along_axis(np.concatenate([first, second], axis=1), which, axis=1)
        prompt[places == lengths[:, None]] = base + 2
        return rows_of(prompt, 2 * lengths + 1, total, lengths + 1, base)

    def truth(self) -> Truth:
        """Nothing is left to chance."""
        return Truth(_EXACT, floor=0.0)


@dataclass(frozen=True)
class Modular:
    """a, b, "=", and a + b modulo p, of all p^2 pairs; a share of these is trained on.

    Power et al. 2022 (2201.02177), Grokking.
    """

    symbols: int  # p
    share: float  # of the pairs, in the train split
    seed: int

    @property
    def vocab(self) -> int:
        """Residues and the mark."""
        return self.symbols + 1

    @property
    def places(self) -> int:
        """The last alone counts."""
        return 3

    @property
    def finite(self) -> tuple[int, int]:
        """All pairs are in one split."""
        pairs = self.symbols**2
        train = min(max(1, round(self.share * pairs)), pairs - 1)
        return train, pairs - train

    def draw(self, split: str, indices: np.ndarray) -> Rows:
        """Pairs in an order of the task's seed: the first are the train split."""
        order = permutation(self.symbols**2, ("modular", self.seed))
        pairs = order[indices + (self.finite[0] if split == "validation" else 0)]
        a, b = np.divmod(pairs, self.symbols)
        mark = np.full_like(a, self.symbols)
        tokens, targets = shifted(np.stack([a, b, mark, (a + b) % self.symbols], axis=1))
        counts = np.zeros(targets.shape, np.float32)
        counts[:, -1] = 1.0
        return Rows(tokens, targets, counts)

    def truth(self) -> Truth:
        """Nothing is left to chance."""
        return Truth(_EXACT, floor=0.0)


def _lengths(keys: np.ndarray, most: int, whole: bool) -> np.ndarray:
    if whole:
        return np.full(len(keys), most)
    return 1 + draws.whole(draws.mixed(keys ^ draws.STEP), 1, most)[:, 0]


def _prompts(
    keys: np.ndarray, symbols: int, most: int, whole: bool
) -> tuple[np.ndarray, np.ndarray]:
    return draws.whole(keys, most, symbols), _lengths(keys, most, whole)


def rows_of(
    prompt: np.ndarray,
    prompts: np.ndarray,
    answer: np.ndarray,
    answers: np.ndarray,
    symbols: int,
) -> Rows:
    """Rows of prompts [B, P] and answers [B, A], of which the first `prompts` and `answers` [B]
    symbols are meant. The marks are the two numbers from `symbols` on: "=", and the end.
    """
    places = np.arange(prompt.shape[1] + answer.shape[1] + 2)[None]
    ends, total = prompts[:, None], (prompts + answers + 1)[:, None]
    stream = np.full((len(prompt), places.shape[1]), symbols + 1, np.int64)
    inside = places < ends
    stream[inside] = prompt[np.arange(prompt.shape[1])[None] < ends]
    stream[places == ends] = symbols
    stream[(places > ends) & (places < total)] = answer[
        np.arange(answer.shape[1])[None] < answers[:, None]
    ]
    tokens, targets = shifted(stream)
    counted = (places > ends) & (places <= total)
    return Rows(tokens, targets, counted[:, 1:].astype(np.float32))
