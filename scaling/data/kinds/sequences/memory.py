"""Associations to be remembered: inputs of Zipf frequencies, each with one answer."""

import functools
from dataclasses import dataclass

import numpy as np

from scaling.config.contracts import Truth
from scaling.data import draws
from scaling.data.kinds.sequences.task import Rows, keys_of, uniform, zipf


@dataclass(frozen=True)
class Associations:
    """Input i, of probability in proportion to i^-exponent, has one of `answers` answers, drawn
    once. Every place of a row is a question by itself.
    """

    symbols: int  # inputs
    answers: int
    exponent: float
    length: int  # questions of a row
    seed: int
    finite = None

    @property
    def vocab(self) -> int:
        """Answers are numbered among the inputs."""
        return max(self.symbols, self.answers)

    @property
    def places(self) -> int:
        """One a question."""
        return self.length

    @property
    def answer_of(self) -> np.ndarray:
        """Of each input: int64 [symbols]."""
        return _drawn(self)[1]

    def draw(self, split: str, indices: np.ndarray) -> Rows:
        """Questions, and their answers as targets."""
        u = uniform(keys_of("associations asked", self.seed, split, indices), self.length)
        upto, answers = _drawn(self)
        tokens = np.minimum(np.searchsorted(upto, u, side="right"), self.symbols - 1)
        targets = answers[tokens]
        ones = np.ones(tokens.shape, np.float32)
        return Rows(tokens.astype(np.int32), targets.astype(np.int32), ones, apart=True)

    def truth(self) -> Truth:
        """What was never seen is guessed, and all else known: after n questions the wrong answers
        are sum_i p_i (1 - p_i)^n of all, ~ n^-(1 - 1/a), but for lucky guesses. A matrix of width d
        that adds up outer products of random embeddings keeps the d most frequent: ~ d^-(a - 1).
        """
        source = "Hutter 2021 (2102.04074), eq. 8; Cabannes et al. 2023 (2310.02984), table 1"
        exponents: dict[str, float] = {}
        if self.exponent > 1:  # below, what is rare never adds up to little
            exponents = {"width": self.exponent - 1}
            exponents |= dict.fromkeys(("amount", "unique"), 1 - 1 / self.exponent)
        return Truth(source, of="accuracy", floor=1.0, exponents=exponents)

    def wrong(self, questions: float) -> float:
        """The share of wrong answers of one who remembers all of so many questions."""
        p = zipf(self.symbols, self.exponent)
        return float((p * np.exp(questions * np.log1p(-p))).sum() * (1 - 1 / self.answers))


@functools.lru_cache(maxsize=16)
def _drawn(task: Associations) -> tuple[np.ndarray, np.ndarray]:
    """Of each input, the sum of probabilities up to it and its answer."""
    keys = draws.folded(draws.key("associations", task.seed), np.arange(task.symbols))
    answers = draws.whole(keys, 1, task.answers)[:, 0]
    return np.cumsum(zipf(task.symbols, task.exponent)), answers
