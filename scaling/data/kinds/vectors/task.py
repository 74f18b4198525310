"""The linear teacher, and examples of any task of vectors, drawn as they are asked for.

Takes the numbers that define the task, and the numbers of examples; gives arrays. An example is a
pure function of the task, the split and its number. Called by `kinds/vectors/__init__.py`;
`theory.py` reads the variances.
"""

import functools
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from scaling.config.contracts import ENDLESS, Truth
from scaling.data import draws


class Task(Protocol):
    """Vectors by number, and what is known of them."""

    @property
    def features(self) -> int:
        """Numbers of an example."""

    @property
    def targets(self) -> int:
        """Numbers to be predicted."""

    def draw(self, split: str, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x [B, features] and y [B, targets] of the numbered examples of a split: float32."""

    def truth(self) -> Truth:
        """What theory says of the sum of squared errors over the targets."""


@dataclass(frozen=True)
class PowerLaw:
    """x_i ~ N(0, lambda_i), y_t = sum_i w_it x_i + noise e_t, with w_it and e_t unit Gaussians."""

    features: int
    targets: int
    alpha: float
    noise: float
    seed: int

    @property
    def variances(self) -> np.ndarray:
        """lambda_i, in proportion to i^-(1 + alpha), with sum 1: float64 [features].

        The targets, and a random feature sum_i u_i x_i of unit Gaussians u, then have a variance of
        1 on average over teachers (and features), so that the loss of an answer of 0 is about 1.
        """
        powers = np.arange(1, self.features + 1, dtype=np.float64) ** -(1.0 + self.alpha)
        return powers / powers.sum()

    @property
    def teacher(self) -> np.ndarray:
        """w: float64 [features, targets]."""
        return _teacher(self.seed, self.features, self.targets)

    def draw(self, split: str, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x [B, features] and y [B, targets] of the numbered examples of a split: float32."""
        of_split = draws.key("power_law", self.seed, split)
        keys = draws.folded(of_split, indices)
        x = (draws.normals(keys, self.features) * np.sqrt(self.variances)).astype(np.float32)
        y = np.empty((len(indices), self.targets))
        for target, weights in enumerate(self.teacher.T):
            # Not a matrix product: how that is summed would depend on the size of the batch.
            y[:, target] = (x * weights).sum(axis=1)
        if self.noise:
            noises = draws.folded(draws.key("power_law noise", self.seed, split), indices)
            y += self.noise * draws.normals(noises, self.targets)
        return x, y.astype(np.float32)

    def truth(self) -> Truth:
        """Of a linear read-out of linear random features, of variances ~ i^-a, a = 1 + alpha: their
        number limits it as ~ width^-(a - 1), a data set that is fitted whole as
        ~ unique^-(a - 1), and data that gradient descent sees once as ~ amount^-(a - 1)/a.
        """
        exponents = {"width": self.alpha, "params": self.alpha, "unique": self.alpha}
        exponents["amount"] = self.alpha / (1.0 + self.alpha)
        return Truth(
            "Maloney et al. 2022 (2210.16859); of data seen once Lin et al. 2024 (2406.08466)",
            floor=self.targets * self.noise**2,
            exponents=exponents,
        )


@functools.lru_cache(maxsize=8)
def _teacher(seed: int, features: int, targets: int) -> np.ndarray:
    keys = draws.folded(draws.key("power_law teacher", seed), np.arange(targets))
    weights = draws.normals(keys, features).T
    weights.setflags(write=False)
    return weights


_KEPT = 2**27  # bytes of examples that are kept for the next time that they are seen


@dataclass(frozen=True)
class VectorExamples:
    """The examples of a split, or of several, one after the other.

    The first ones that are asked for are kept, as many as `_KEPT` holds: drawing takes far longer
    than reading them again. Of a split without an end nothing is, as nothing is met again.
    """

    task: Task
    splits: tuple[tuple[str, int], ...]  # names, and how many examples each has
    _kept: dict[int, tuple[np.ndarray, np.ndarray]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __len__(self) -> int:
        return sum(count for _, count in self.splits)

    def take(self, indices: np.ndarray, keys: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """features [B, F], targets [B, T] and weight [B] of the examples `indices` [B]: float32.

        Every example is the same each time that it is seen, so that `keys` changes nothing.
        """
        del keys
        rows = len(indices)
        features = np.empty((rows, self.task.features), np.float32)
        targets = np.empty((rows, self.task.targets), np.float32)
        new = np.ones(rows, bool)
        for row, index in enumerate(indices.tolist()):
            if (kept := self._kept.get(index)) is not None:
                features[row], targets[row] = kept
                new[row] = False
        if new.any():
            features[new], targets[new] = self._drawn(indices[new])
            room = _KEPT // (4 * (self.task.features + self.task.targets)) - len(self._kept)
            room = 0 if len(self) >= ENDLESS else room
            for row in new.nonzero()[0][: max(0, room)]:
                self._kept[int(indices[row])] = features[row].copy(), targets[row].copy()
        return {"features": features, "targets": targets, "weight": np.ones(rows, np.float32)}

    def _drawn(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features = np.empty((len(indices), self.task.features), np.float32)
        targets = np.empty((len(indices), self.task.targets), np.float32)
        for split, here, numbers in draws.by_split(self.splits, indices):
            features[here], targets[here] = self.task.draw(split, numbers)
        return features, targets

    def __getstate__(self) -> dict[str, Any]:
        """To another process go the task and the splits alone."""
        return {"task": self.task, "splits": self.splits, "_kept": {}}
