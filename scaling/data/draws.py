"""Random numbers as a pure function of a key and a position: no stream, no state, no order.

Takes uint64 keys, one a row; gives as many numbers a row as are asked for. The number at a position
depends on the key of its row and on the position alone, so rows may be drawn in any order, in any
batch and on any host. Called by the kinds of data that draw something.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator

import numpy as np

STEP = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, odd
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def key(*parts: str | int) -> np.uint64:
    """A key from the things that it stands for."""
    return np.uint64(int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big"))


def folded(key: np.uint64, numbers: np.ndarray) -> np.ndarray:
    """The keys of the numbered parts of what `key` stands for: uint64, of the shape of `numbers`
    (whole numbers, at least 0).
    """
    return mixed(key ^ mixed((numbers.astype(np.uint64) + np.uint64(1)) * STEP))


def bits(keys: np.ndarray, count: int) -> np.ndarray:
    """64 random bits at each of the positions 0 to `count` - 1 of each key [B]: uint64 [B, count].

    `mixed` of the sum of a hash of the key and one of the position. Both are hashed first: in
    counters of a fixed step the rows of two keys could be shifts of each other.
    """
    positions = mixed((np.arange(count, dtype=np.uint64) + np.uint64(1)) * STEP)
    return mixed(mixed(keys.astype(np.uint64))[:, None] + positions[None, :])


def whole(keys: np.ndarray, count: int, below: int) -> np.ndarray:
    """Whole numbers, even over range(`below`) to within `below` / 2^64: int64 [B, count]."""
    return (bits(keys, count) % np.uint64(below)).astype(np.int64)


def normals(keys: np.ndarray, count: int) -> np.ndarray:
    """Independent unit Gaussians: float64 [B, count].

    By Box and Muller (1958), from the bits at the positions 2 i and 2 i + 1 for the numbers there,
    so that a shorter row is the beginning of a longer one. The bits are the same everywhere; the
    logarithm and the cosine are the machine's, whose last place may differ.
    """
    pairs = (count + 1) // 2
    uniform = bits(keys, 2 * pairs) >> np.uint64(11)  # 53 bits, what a float64 holds
    first = np.ascontiguousarray(uniform[:, 0::2]).astype(np.float64)
    second = np.ascontiguousarray(uniform[:, 1::2]).astype(np.float64)
    radius = np.sqrt(-2.0 * np.log((first + 1.0) * 2.0**-53))  # of (0, 1]: no logarithm of 0
    angle = second * (2.0 * math.pi * 2.0**-53)
    numbers = np.empty((len(keys), 2 * pairs))
    numbers[:, 0::2], numbers[:, 1::2] = radius * np.cos(angle), radius * np.sin(angle)
    return numbers[:, :count]


def by_split(
    splits: Iterable[tuple[str, int]], indices: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Of splits that lie one after the other, each of so many examples: which splits the numbered
    examples are of, and for each its name, the places in `indices` and the numbers in the split.
    """
    first = 0
    for split, count in splits:
        (here,) = ((indices >= first) & (indices < first + count)).nonzero()
        if len(here):
            yield split, here, indices[here] - first
        first += count


def mixed(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014, figure 16): a bijection of 64 bits,
    of which each moves half of all.
    """
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))
