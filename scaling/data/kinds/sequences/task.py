"""What a task of sequences is: rows by number, and what is known of them.

`__init__.py` asks for tasks by name; the files beside this one have them. A task is a frozen
dataclass, so that its name and its fields are all that decides its examples.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from scaling.config.contracts import Truth
from scaling.data import draws


@dataclass(frozen=True)
class Rows:
    """Examples, [B, L] each."""

    tokens: np.ndarray  # int32
    targets: np.ndarray  # int32
    counts: np.ndarray  # float32: 1 where the target is to be predicted, else 0
    apart: bool = False  # every place is an example by itself: nothing of a row tells of the rest


class Task(Protocol):
    """Sequences of whole numbers, and what is to be predicted at each place."""

    @property
    def vocab(self) -> int:
        """Symbols that there are, marks between them included."""

    @property
    def places(self) -> int:
        """L, predictions of a row."""

    @property
    def finite(self) -> tuple[int, int] | None:
        """Examples of the train and the validation split, where there are only so many."""

    def draw(self, split: str, indices: np.ndarray) -> Rows:
        """The numbered examples [B] of a split."""

    def truth(self) -> Truth:
        """What theory says of the loss."""


def keys_of(name: str, seed: int, split: str, indices: np.ndarray) -> np.ndarray:
    """Of the numbered examples of a split of the task `name`: uint64 [B]."""
    return draws.folded(draws.key(name, seed, split), indices)


def uniform(keys: np.ndarray, count: int) -> np.ndarray:
    """Numbers of [0, 1), `count` a key: float64 [B, count]."""
    return (draws.bits(keys, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def zipf(count: int, exponent: float) -> np.ndarray:
    """Probabilities in proportion to i^-exponent, i from 1: float64 [count]."""
    powers = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    return powers / powers.sum()


def shifted(stream: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(tokens, targets) [B, L] of a stream [B, L + 1]."""
    stream = stream.astype(np.int32)
    return np.ascontiguousarray(stream[:, :-1]), np.ascontiguousarray(stream[:, 1:])
