"""Can the model learn one batch by heart? The first check of a model that does not learn.

Takes an `Instant`; trains on its batch alone, with the run's optimizer at its peak learning rate,
without warm-up or decay. In a batch of text, tokens after equal beginnings that go on differently
cannot be told apart by any causal model: the least loss that the batch allows is counted. Called by
`launch.py debug --overfit`.
"""

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling.config import choices
from scaling.debug.instant import Instant
from scaling.debug.step import update_of

NEAR = 0.02  # of what there is to lose
MOST = 400  # updates


@dataclass(frozen=True)
class Overfit:
    """What came of it; losses in the unit of the objective's."""

    losses: tuple[float, ...]  # before each update
    least: float  # that the batch allows
    measure: str = "loss"  # what the objective calls it

    @property
    def reached(self) -> bool:
        """Whether the loss came near the least: 2 % of the way is left at most."""
        first, last = self.losses[0], self.losses[-1]
        return math.isfinite(last) and last - self.least <= NEAR * (first - self.least)


def overfit(
    instant: Instant, most: int = MOST, say: Callable[[int, float], None] = lambda i, x: None
) -> Overfit:
    """Train on the batch until the loss is near the least, is not finite, or `most` updates.

    `say(update, loss)` is told of the updates 1, 2, 5, 10, 20, 50 ...
    """
    steady = dataclasses.replace(
        instant.config.optim,
        schedule="constant",
        warmup_steps=0,
        warmup_fraction=None,
        weight_decay=0.0,
    )
    instant = dataclasses.replace(instant, config=dataclasses.replace(instant.config, optim=steady))
    kept = jax.tree.map(jnp.copy, instant.state)  # what is donated is gone
    fresh = instant.pieces.optimizer.init(instant.pieces.trained(kept.params))
    state = dataclasses.replace(kept, opt_state=fresh)
    update = instant.here(jax.jit(update_of(instant), donate_argnums=0))
    least, losses = least_loss(instant.batch), list[float]()
    measure = choices.objective(instant.config.objective).metrics["loss"].label
    for i in range(1, most + 1):
        state, metrics = update(state, instant.batch)
        losses.append(float(metrics["loss"]))
        so_far = Overfit(tuple(losses), least, measure)
        ends = so_far.reached or not math.isfinite(losses[-1])
        if ends or i == most or str(i).rstrip("0") in ("1", "2", "5"):
            say(i, losses[-1])
        if ends:
            break
    return so_far


def least_loss(batch: Mapping[str, Any]) -> float:
    """Mean over the counted tokens of -log of how often a token follows its beginning in the batch,
    natural; 0 for a batch without tokens and targets.

    A beginning: the tokens of the same document from the start of the window to here.
    """
    if not {"tokens", "targets"} <= set(batch):
        return 0.0
    tokens, targets = np.asarray(batch["tokens"]), np.asarray(batch["targets"])
    counted = np.asarray(batch.get("loss_mask", np.ones(tokens.shape)), np.float64)
    documents = np.asarray(batch.get("segment_ids", np.zeros(tokens.shape, int)))
    follows: dict[Any, Counter[int]] = defaultdict(Counter)
    for row in range(tokens.shape[0]):
        beginning: Any = ()
        for i in range(tokens.shape[1]):
            if i and documents[row, i] != documents[row, i - 1]:
                beginning = ()
            beginning = hash((beginning, int(tokens[row, i])))
            follows[beginning][int(targets[row, i])] += counted[row, i]
    total = 0.0
    for counts in follows.values():
        whole = sum(counts.values())
        total -= sum(n * math.log(n / whole) for n in counts.values() if n)
    return total / max(counted.sum(), 1.0)


def text(found: Overfit) -> str:
    """For a person."""
    first, last = found.losses[0], found.losses[-1]
    why = " (equal beginnings go on differently)" if found.least > 0 else ""
    went = (
        f"{found.measure} {first:.4g} -> {last:.4g} in {len(found.losses)} updates on one batch; "
        f"least that the batch allows {found.least:.4g}{why}"
    )
    if found.reached:
        return f"{went}\nthe model learns the batch by heart"
    if not math.isfinite(last):
        return (
            f"{went}\nNOT FINITE: without --overfit, `debug` names the operation; or lower the rate"
        )
    return (
        f"{went}\nDOES NOT LEARN THE BATCH: wrong gradients (--check_grads), targets that do not "
        "belong to what the model reads, a part without a gradient (zeros in the table), or a rate "
        "that is too low or too high (--config.optim.peak_lr)"
    )
