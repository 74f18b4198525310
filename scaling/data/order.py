"""Pseudo-random orders that anyone can compute again.

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
