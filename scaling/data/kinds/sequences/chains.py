"""Stationary sources of known entropy: Markov chains of order one and two, and a hidden one.

Their marginals follow Zipf's law exactly: a random positive matrix is scaled to the margins that it
shall have (Sinkhorn 1967, "Diagonal equivalence to matrices with prescribed row and column sums").
The floor of the loss is the mean over a row's places of the entropy of a symbol given those before
it in the row, which is all that a model sees.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np

from scaling.config.contracts import Truth
from scaling.data import draws
from scaling.data.kinds.sequences.task import Rows, keys_of, shifted, uniform, zipf

_SCALINGS = 2000  # at most; each makes the margins better by a constant factor
_ROWS = 8192  # that the hidden source's entropy is measured on


@dataclass(frozen=True)
class Markov:
    """A Markov chain over symbols, of order one or two."""

    symbols: int
    order: int
    exponent: float  # symbol i has the probability i^-exponent, over their sum
    contrast: float  # standard deviation of the logarithms that the transitions are made of
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
        """Rows that begin anywhere in the stationary chain."""
        u = uniform(keys_of("markov", self.seed, split, indices), self.length + 1)
        start, first, later = _steps(self)
        stream = np.empty(u.shape, np.int64)
        stream[:, 0] = chosen(0, start, self.symbols, u[:, 0])
        for t in range(1, u.shape[1]):
            steps, context = first, stream[:, t - 1]
            if self.order == 2 and t > 1:
                steps, context = later, stream[:, t - 2] * self.symbols + context
            stream[:, t] = chosen(context, steps, self.symbols, u[:, t])
        tokens, targets = shifted(stream)
        return Rows(tokens, targets, np.ones(targets.shape, np.float32))

    def truth(self) -> Truth:
        """Exact. Of order two the first prediction of a row has one symbol to go by."""
        pairs, transitions = _chain(self)
        one = conditional_entropy(pairs)
        floor = one
        if self.order == 2:
            triples = transitions * pairs.reshape(-1, 1)
            floor = (one + (self.length - 1) * conditional_entropy(triples)) / self.length
        return Truth("exact: entropy of the chain", floor=floor)


@dataclass(frozen=True)
class HiddenMarkov:
    """A Markov chain of hidden states, each of which emits symbols."""

    symbols: int
    states: int
    exponent: float
    contrast: float
    length: int
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
        """Rows that begin anywhere in the stationary chain."""
        keys = keys_of("hidden_markov", self.seed, split, indices)
        tokens, targets = shifted(self._stream(uniform(keys, 2 * self.length + 2)))
        return Rows(tokens, targets, np.ones(targets.shape, np.float32))

    def _stream(self, u: np.ndarray) -> np.ndarray:
        start, moves, emitted = _steps(self)
        state = chosen(0, start, self.states, u[:, 0])
        stream = np.empty((len(u), self.length + 1), np.int64)
        for t in range(self.length + 1):
            if t:
                state = chosen(state, moves, self.states, u[:, 2 * t])
            stream[:, t] = chosen(state, emitted, self.symbols, u[:, 2 * t + 1])
        return stream

    def truth(self) -> Truth:
        """By the forward filter (Rabiner 1989, A tutorial on hidden Markov models, section III), of
        8,192 rows: the entropy of each prediction, which varies less than its surprise.
        """
        floor, error = _filtered(self)
        source = f"entropy of the source, by the filter of {_ROWS:,} rows"
        return Truth(source, floor=floor, floor_error=error)


def steps_of(joint: np.ndarray) -> np.ndarray:
    """Of the second index given the first, of joint probabilities [C, V]: where each symbol ends in
    [c, c + 1), one context after the other: float64 [C V].
    """
    upto = np.cumsum(joint / joint.sum(axis=1, keepdims=True), axis=1)
    upto[:, -1] = 1.0
    return (upto + np.arange(len(joint))[:, None]).ravel()


def chosen(context: np.ndarray | int, steps: np.ndarray, symbols: int, u: np.ndarray) -> np.ndarray:
    """The symbol that each of `u` [B] falls on in its context [B], by `steps_of`: int64 [B]."""
    found = np.searchsorted(steps, context + u, side="right") - context * symbols
    return np.clip(found, 0, symbols - 1)


def conditional_entropy(joint: np.ndarray) -> float:
    """Nats of the second index given the first, of joint probabilities [C, V]."""
    given = joint / joint.sum(axis=1, keepdims=True)
    return float(-(joint * np.log(given, where=given > 0, out=np.zeros_like(given))).sum())


def scaled_to(kernel: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The matrix D1 K D2 with these sums of rows and columns, of a positive matrix K."""
    right = np.ones(len(columns))
    for _ in range(_SCALINGS):
        left = rows / (kernel @ right)
        right, before = columns / (left @ kernel), right
        if np.max(np.abs(right / before - 1)) < 1e-15:
            break
    left = rows / (kernel @ right)
    return left[:, None] * kernel * right


def _kernel(
    seed: int, what: str, number: int, shape: tuple[int, int], contrast: float
) -> np.ndarray:
    keys = draws.folded(draws.key("chain", what, seed), np.array([number]))
    return np.exp(contrast * draws.normals(keys, math.prod(shape)).reshape(shape))


@functools.lru_cache(maxsize=16)
def _chain(source: Markov) -> tuple[np.ndarray, np.ndarray]:
    """Joint probabilities of two neighbours [V, V], whose margins are Zipf's; and, of order two,
    those of a symbol given the two before it, [V V, V], under which pairs stay so distributed.
    """
    marginal, size = zipf(source.symbols, source.exponent), source.symbols
    kernel = _kernel(source.seed, "pairs", 0, (size, size), source.contrast)
    pairs = scaled_to(kernel * np.outer(marginal, marginal), marginal, marginal)
    given = np.empty((size, size, size)) if source.order == 2 else np.empty((0, 0, 0))
    for middle in range(size if source.order == 2 else 0):
        before, after = pairs[:, middle], pairs[middle]
        kernel = _kernel(source.seed, "triples", middle, (size, size), source.contrast)
        triples = scaled_to(kernel * np.outer(before, after), before, after)
        given[:, middle] = triples / triples.sum(axis=1, keepdims=True)
    return pairs, given.reshape(-1, size)


@functools.lru_cache(maxsize=16)
def _steps(source: "Markov | HiddenMarkov") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`steps_of` the start, of a chain's second and later symbols, or of moves and emissions."""
    if isinstance(source, HiddenMarkov):
        moves, emissions = _hidden(source)
        start = emissions.sum(axis=1)[None]
        return steps_of(start), steps_of(moves), steps_of(emissions)
    pairs, given = _chain(source)
    return steps_of(pairs.sum(axis=1)[None]), steps_of(pairs), steps_of(given)


@functools.lru_cache(maxsize=16)
def _hidden(source: HiddenMarkov) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the next state [S, S], under which all are equally frequent, and joint ones
    of state and symbol [S, V], with Zipf's over the symbols.
    """
    even, marginal = (
        np.full(source.states, 1 / source.states),
        zipf(source.symbols, source.exponent),
    )
    shape = (source.states, source.states)
    moves = scaled_to(_kernel(source.seed, "moves", 0, shape, source.contrast), even, even)
    kernel = _kernel(source.seed, "emissions", 0, (source.states, source.symbols), source.contrast)
    return moves * source.states, scaled_to(kernel * marginal, even, marginal)


@functools.lru_cache(maxsize=16)
def _filtered(source: HiddenMarkov) -> tuple[float, float]:
    """(mean over places of the entropy of the next symbol given those of the row before it, its
    standard error), nats.
    """
    keys = keys_of("hidden_markov entropy", source.seed, "", np.arange(_ROWS))
    stream = source._stream(uniform(keys, 2 * source.length + 2))
    moves, emissions = _hidden(source)
    emitted = emissions / emissions.sum(axis=1, keepdims=True)
    belief, nats = np.full((_ROWS, source.states), 1 / source.states), np.zeros(_ROWS)
    for t in range(source.length):
        belief = belief * emitted[:, stream[:, t]].T
        belief = belief / belief.sum(axis=1, keepdims=True) @ moves
        expected = belief @ emitted
        nats -= (expected * np.log(expected)).sum(axis=1)
    nats /= source.length
    return float(nats.mean()), float(nats.std(ddof=1) / math.sqrt(_ROWS))
