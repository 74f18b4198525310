"""Pseudo-random orders and keys that anyone can compute again.

`permutation(count, key)` depends on nothing but its arguments: not on the host, the process, or the
NumPy version. Called by `batches.py` and `runs.py`.
"""

import functools
import hashlib

import numpy as np


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


def keys(seed: int, epoch: np.ndarray, index: np.ndarray) -> np.ndarray:
    """A key for each time that an example is seen: uint64 [B], for whatever is drawn anew then.

    Depends on the seed, the epoch and the example, and on nothing else. Mixed by the finalizer of
    SplitMix64 (Steele, Lea and Flood 2014, Fast splittable pseudorandom number generators).
    """
    golden, state = np.uint64(0x9E3779B97F4A7C15), np.full(index.shape, seed, np.uint64)
    with np.errstate(over="ignore"):
        for part in (epoch, index):
            state = state * golden + part.astype(np.uint64) + golden
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state
