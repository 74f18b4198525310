"""Pseudo-random orders and keys that anyone can compute again.

`permutation(count, key)` depends on nothing but its arguments: not on the host, the process, or the
NumPy version. Called by `batches.py` and `runs.py`.
"""

import functools
import hashlib

import numpy as np

from scaling.config.contracts import ENDLESS
from scaling.data import draws
from scaling.data.draws import STEP, mixed


@functools.lru_cache(maxsize=8)
def permutation(count: int, key: tuple[str | int, ...]) -> np.ndarray:
    """A permutation of range(count), read-only: int64 [count].

    Made by sorting 64 random bits per element. NumPy promises that the raw stream of a bit
    generator never changes, but not what `Generator.permutation` makes of it, so the raw bits are
    used. The sort is stable: two elements that drew the same bits still come in one order. Costs
    one sort an epoch, which is kept for the calls that follow.
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    bits = np.random.Philox(key=int.from_bytes(digest[:16], "big")).random_raw(count)
    order = np.argsort(bits, kind="stable")
    order.setflags(write=False)
    return order


def nested(count: int) -> np.ndarray:
    """Every example of a split, in the one order from which subsets are taken, so that they nest:
    int64 [count].
    """
    return permutation(count, ("windows",))


def endless(seed: int, position: np.ndarray) -> np.ndarray:
    """The examples at these places of an endless stream: int64, each of range(`ENDLESS`).

    A hash of seed and place: nothing is kept or sorted, and of n examples that are seen two are the
    same with a chance of n^2 / 2^61.
    """
    hashed = draws.folded(draws.key("endless", seed), position)
    return (hashed % np.uint64(ENDLESS)).astype(np.int64)


def keys(seed: int, epoch: np.ndarray, index: np.ndarray) -> np.ndarray:
    """A key for each time that an example is seen: uint64 [B], for whatever is drawn anew then.

    Depends on the seed, the epoch and the example, and on nothing else.
    """
    state = np.full(index.shape, seed, np.uint64)
    for part in (epoch, index):
        state = mixed(state * STEP + part.astype(np.uint64) + STEP)
    return state
