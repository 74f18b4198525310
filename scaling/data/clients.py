"""Whose the examples are, where clients train by themselves, and which of them a round reads.

Pure functions of counts, labels and seeds. Called by `runs.py`, which deals the training set, and
by `batches.py`.
"""

from dataclasses import dataclass

import numpy as np

from scaling.data.order import permutation
from scaling.errors import DataError


def owned_by(count: int, clients: int, skew: float, labels: np.ndarray | None) -> np.ndarray:
    """The examples of each client, of a training set of `count`: int64 [clients, count // clients],
    each at one place at most.

    A share `skew` of them is sorted by label (without labels: stays in the set's order) and cut
    into runs, as McMahan et al. 2017 (arXiv 1602.05629) deal all of theirs; the rest is dealt at
    random. Raises DataError where there are more clients than examples.
    """
    each = count // clients
    if not each:
        raise DataError(
            f"federated.clients={clients}: the training set has {count} examples, so that some "
            "clients would have none; give fewer"
        )
    own = round(skew * each)
    mixed = permutation(count, ("clients",))
    apart = np.sort(mixed[: own * clients])
    if labels is not None:
        apart = apart[np.argsort(labels[apart], kind="stable")]
    rest = mixed[own * clients : each * clients].reshape(clients, each - own)
    return np.concatenate([apart.reshape(clients, own), rest], axis=1)


@dataclass(frozen=True, eq=False)
class Rounds:
    """Which examples each round reads."""

    owned: np.ndarray  # [clients, examples of each]
    per_round: int
    seed: int

    def taken(self, example: np.ndarray, rows: int) -> np.ndarray:
        """The examples at some places of a stream whose batches have so many rows: int64 [place]. A
        batch holds the rows of one client after those of another, each drawn from its own without
        replacement as far as they go.
        """
        clients, each = self.owned.shape
        found = np.empty(len(example), np.int64)
        turn, place = np.divmod(example, rows // self.per_round)
        for number in np.unique(turn):
            step, slot = divmod(int(number), self.per_round)
            client = int(permutation(clients, ("round", self.seed, step))[slot])
            order = permutation(each, ("client", self.seed, step, client))
            here = turn == number
            found[here] = self.owned[client, order[place[here] % each]]
        return found
