"""What an objective is: sums with counts, per row of the batch.

A loss is never a mean here. It is a total and a count, so that adding over rows, microbatches,
hosts and evaluation batches is exact, and the mean is taken once, at the end. The train step
differentiates `Loss.loss` and divides by the count of all of them; the evaluator keeps the
rows apart for a standard error that is clustered by window.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import flax.linen as nn
import flax.struct
import jax

from scaling.config import choices

Array = jax.Array
Batch = Mapping[str, Array]


@flax.struct.dataclass
class Sum:
    """A mean that has not been taken yet: float32 total and count, of any equal shape."""

    total: Array
    count: Array

    @property
    def mean(self) -> Array:
        """total / count."""
        return self.total / self.count


@flax.struct.dataclass
class Rows:
    """What one row (window, image) of the batch contributes; float32 [B], or [B, ...] in `sums`."""

    minimised: Array  # what is differentiated, summed over the row's tokens
    penalties: dict[str, Array]  # added to it, each times its weight in the objective
    # Means, always with "loss", whose count is what gradients are divided by; and, of metrics with
    # a `finish`, other statistics that add up (`scaling/metrics`), which evaluation alone computes.
    sums: Mapping[str, Sum | Array]


@dataclass(frozen=True)
class Loss:
    """A pure function from outputs and batch to sums, and what follows from it."""

    rows_of: Callable[[Mapping[str, Any], Batch], Rows]  # of model outputs and batch
    weights: Mapping[str, float]  # of the penalties that are on

    def rows(self, model: nn.Module, params: Any, batch: Batch) -> Mapping[str, Sum | Array]:
        """Sums of every row apart, each [B, ...]; without randomness, for evaluation."""
        outputs = cast(Mapping[str, Any], model.apply({"params": params}, batch))
        return self.rows_of(outputs, batch).sums

    def loss(
        self,
        model: nn.Module,
        params: Any,
        batch: Batch,
        rng: Array,
        hparams: Mapping[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Sum]]:
        """(what is differentiated, the sums that are means), both over the whole batch.

        `rng` is for modules that draw random numbers in training, as dropout would; so far none
        does. The weights of the penalties that are on are taken from `hparams`, where they may be
        traced: runs that differ in them share one program. None: the config's.
        """
        outputs = model.apply({"params": params}, batch, rngs={"dropout": rng})
        rows = self.rows_of(cast(Mapping[str, Any], outputs), batch)
        weights = self.weights if hparams is None else hparams
        total = rows.minimised.sum()
        for name in self.weights:
            total += weights[name] * rows.penalties[name].sum()
        means = {name: s for name, s in rows.sums.items() if isinstance(s, Sum)}
        return total, jax.tree.map(lambda x_B: x_B.sum(), means)


def build(config: Any) -> Loss:
    """The loss of a resolved objective config."""
    return cast(Loss, choices.load(choices.objective(config).rows)(config))
