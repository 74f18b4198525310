"""Many parities of a few bits, each of its own bits, some asked for more often than others.

The task of Michaud, Liu, Girit and Tegmark (2023), "The quantization model of neural scaling",
arXiv 2303.13506, section 3. Called by `kinds/vectors/__init__.py`.
"""

import functools
from dataclasses import dataclass

import numpy as np

from scaling.config.contracts import Truth
from scaling.data import draws


@dataclass(frozen=True)
class SparseParity:
    """An example is which task is asked for, one feature of the first `tasks` being 1, and random
    bits 0 and 1 in the other features; its target is +1 or -1, the parity of the task's own bits.
    Task k is asked for ~ k^-(1 + alpha).
    """

    features: int  # the tasks' and the bits'
    tasks: int
    size: int  # bits of a parity
    alpha: float
    seed: int
    targets = 1

    @property
    def frequencies(self) -> np.ndarray:
        """Of each task: float64 [tasks]."""
        powers = np.arange(1, self.tasks + 1, dtype=np.float64) ** -(1.0 + self.alpha)
        return powers / powers.sum()

    @property
    def subsets(self) -> np.ndarray:
        """The bits of each task: int64 [tasks, size], of range(features - tasks)."""
        return _subsets(self)

    def draw(self, split: str, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x [B, features] and y [B, 1] of the numbered examples of a split: float32."""
        keys, count = draws.folded(draws.key("parity", self.seed, split), indices), len(indices)
        words = (self.features - self.tasks + 63) // 64
        random = draws.bits(keys, 1 + words)
        u = (random[:, 0] >> np.uint64(11)).astype(np.float64) * 2.0**-53
        upto = np.cumsum(self.frequencies)
        task = np.minimum(np.searchsorted(upto, u, side="right"), self.tasks - 1)
        every = random[:, 1:, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)
        bits = every.reshape(count, -1)[:, : self.features - self.tasks]
        x = np.zeros((count, self.features), np.float32)
        x[np.arange(count), task] = 1.0
        x[:, self.tasks :] = bits
        odd = np.take_along_axis(bits, self.subsets[task], axis=1).sum(axis=1) % np.uint64(2)
        return x, (1.0 - 2.0 * odd.astype(np.float32))[:, None]

    def truth(self) -> Truth:
        """Tasks are learned or not, frequent ones first. The error is what is asked for of those
        that are not: n learned ones leave ~ n^-alpha, and a task needs a number of examples of its
        own, so that D examples teach ~ D^(1 / (1 + alpha)) of them.
        """
        of_data = self.alpha / (1.0 + self.alpha)
        return Truth(
            "Michaud et al. 2023 (2303.13506), section 2",
            floor=0.0,
            exponents={"params": self.alpha, "amount": of_data, "unique": of_data},
        )


@functools.lru_cache(maxsize=8)
def _subsets(task: SparseParity) -> np.ndarray:
    keys = draws.folded(draws.key("parity bits", task.seed), np.arange(task.tasks))
    order = np.argsort(draws.bits(keys, task.features - task.tasks), axis=1, kind="stable")
    chosen = order[:, : task.size]
    chosen.setflags(write=False)
    return chosen
