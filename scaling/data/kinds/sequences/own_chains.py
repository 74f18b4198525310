"""A Markov chain of its own for every row: nothing but the row itself foretells its symbols.

What a symbol is followed by must be read off what it was followed by before (Edelman et al. 2024,
arXiv 2402.11004: statistical induction heads). The best that can be said is known exactly.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv

from scaling.config.contracts import Truth
from scaling.data.kinds.sequences.task import Rows, keys_of, shifted, uniform

_ROWS = 8192  # that the floor is measured on


@dataclass(frozen=True)
class OwnChains:
    """Chains of order one, the transitions from each symbol drawn by themselves."""

    symbols: int
    concentration: float  # of the Dirichlet distribution that transitions are drawn from
    length: int  # symbols that are predicted in a row
    seed: int
    finite = None

    @property
    def vocab(self) -> int:
        """Every symbol."""
        return self.symbols

    @property
    def places(self) -> int:
        """Each is predicted from those before it."""
        return self.length

    def draw(self, split: str, indices: np.ndarray) -> Rows:
        """Rows whose first symbol is any, and says nothing of the rest."""
        tokens, targets = shifted(self._streams(keys_of("own_chains", self.seed, split, indices)))
        return Rows(tokens, targets, np.ones(targets.shape, np.float32))

    def _streams(self, keys: np.ndarray) -> np.ndarray:
        """int64 [B, L + 1]."""
        size, rows = self.symbols, np.arange(len(keys))
        u = uniform(keys, size * size + self.length + 1)
        weights = gammaincinv(self.concentration, u[:, : size * size]).reshape(-1, size, size)
        upto = np.cumsum(weights, axis=2)
        upto /= upto[:, :, -1:]
        u, stream = u[:, size * size :], np.empty((len(keys), self.length + 1), np.int64)
        stream[:, 0] = np.minimum(u[:, 0] * size, size - 1)
        for t in range(1, self.length + 1):
            below = upto[rows, stream[:, t - 1]] <= u[:, t, None]
            stream[:, t] = np.minimum(below.sum(axis=1), size - 1)
        return stream

    def truth(self) -> Truth:
        """What Bayes' rule says: a symbol that has come n times, k of them before another, comes
        before that one again with probability (k + a) / (n + symbols a), a the concentration.
        """
        floor, error = _counted(self)
        source = f"entropy given the row so far, by the counts of {_ROWS:,} rows"
        return Truth(source, floor=floor, floor_error=error)


@functools.lru_cache(maxsize=16)
def _counted(source: OwnChains) -> tuple[float, float]:
    """(mean over places of the entropy of the next symbol given those of the row before it, its
    standard error), nats.
    """
    stream = source._streams(keys_of("own_chains entropy", source.seed, "", np.arange(_ROWS)))
    rows, size = np.arange(_ROWS), source.symbols
    seen, nats = np.full((_ROWS, size, size), source.concentration), np.zeros(_ROWS)
    for t in range(source.length):
        now, after = stream[:, t], stream[:, t + 1]
        expected = seen[rows, now]
        expected = expected / expected.sum(axis=1, keepdims=True)
        nats -= (expected * np.log(expected)).sum(axis=1)
        seen[rows, now, after] += 1
    nats /= source.length
    return float(nats.mean()), float(nats.std(ddof=1) / math.sqrt(_ROWS))
