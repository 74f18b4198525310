"""Balanced brackets of several kinds: words of Dyck's language, each of one length as likely."""

import math
from dataclasses import dataclass

import numpy as np

from scaling.config.contracts import Truth
from scaling.data.kinds.sequences.task import Rows, keys_of, shifted, uniform


@dataclass(frozen=True)
class Dyck:
    """A mark, then a word of `length` pairs of brackets. Opening ones are numbered from 0, closing
    ones from `symbols` on.
    """

    symbols: int  # kinds of brackets
    length: int  # pairs of a word
    seed: int
    finite = None

    @property
    def vocab(self) -> int:
        """Brackets and the mark."""
        return 2 * self.symbols + 1

    @property
    def places(self) -> int:
        """Every bracket is predicted."""
        return 2 * self.length

    def draw(self, split: str, indices: np.ndarray) -> Rows:
        """Words, evenly drawn: with r brackets to come and h open, the next opens in (r - h)(h + 2)
        of 2 r (h + 1) of the words, as the ballot numbers say.
        """
        u = uniform(keys_of("dyck", self.seed, split, indices), 4 * self.length)
        count, steps = len(u), 2 * self.length
        stream = np.full((count, steps + 1), 2 * self.symbols, np.int64)
        stack, height = np.zeros((count, self.length + 1), np.int64), np.zeros(count, np.int64)
        kinds = (u[:, steps:] * self.symbols).astype(np.int64)
        every = np.arange(count)
        for t in range(steps):
            left = steps - t
            opens = u[:, t] * 2 * left * (height + 1) < (left - height) * (height + 2)
            stack[every, np.where(opens, height, self.length)] = kinds[:, t]
            height = height + np.where(opens, 1, -1)
            closed = self.symbols + stack[every, height]
            stream[:, t + 1] = np.where(opens, kinds[:, t], closed)
        tokens, targets = shifted(stream)
        return Rows(tokens, targets, np.ones(targets.shape, np.float32))

    def truth(self) -> Truth:
        """Catalan's number of shapes, and a kind for every pair: all equally likely."""
        pairs = self.length
        shapes = math.lgamma(2 * pairs + 1) - 2 * math.lgamma(pairs + 1) - math.log(pairs + 1)
        floor = (shapes + pairs * math.log(self.symbols)) / (2 * pairs)
        return Truth("exact: entropy of an even draw of the words", floor=floor)
