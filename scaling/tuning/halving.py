"""Who goes on: successive halving, as a pure function of the losses at a rung."""

import math
from collections.abc import Mapping, Sequence


def promoted(own: Mapping[int, float], others: Sequence[float], reduction: int) -> set[int]:
    """Of the trials that have come to a rung, those that go on.

    Args:
      own: their losses, by trial; one that is not finite has diverged.
      others: the losses of all earlier trials at this rung.
      reduction: one of so many goes on, at least one of all.

    A trial goes on if it is among the best floor(n / reduction) of the n trials that ever came
    here: a generation better than those before it sends more of its trials on, a worse one none.
    Equal losses go on together.
    """
    every = sorted([*own.values(), *others])
    bound = every[max(1, len(every) // reduction) - 1]
    return {trial for trial, loss in own.items() if loss <= bound and math.isfinite(loss)}
