"""Squared error of real targets, with the variance that is explained.

Takes a model's output `out` [B, T] and a batch with targets float32 [B, T] and weight float32 [B]
(0: a row that only fills up the batch); gives `Rows`, float32.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from scaling.errors import ConfigError
from scaling.metrics import statistics
from scaling.objectives.objective import Array, Batch, Loss, Rows, Sum
from scaling.objectives.regression import RegressionConfig


def rows(config: RegressionConfig) -> Loss:
    """The mean over examples of sum_t (out_t - targets_t)^2, in squared units of the targets.

    Summed over targets, not averaged, and without a factor 1/2. To compare, a theory's mean squared
    error of one target is multiplied by their number, and what it gives as half of a square (as
    Maloney, Roberts and Sully 2022, arXiv 2210.16859, train on) is doubled.
    """

    def rows_of(outputs: Mapping[str, Any], batch: Batch) -> Rows:
        out_BxT, targets_BxT = outputs["out"], batch["targets"].astype(jnp.float32)
        if out_BxT.shape != targets_BxT.shape:
            raise ConfigError(
                f"the model gives {out_BxT.shape[-1]} numbers a row and the data have "
                f"{targets_BxT.shape[-1]} targets: leave the model's outputs unset"
            )
        weight_B = batch["weight"].astype(jnp.float32)
        # What stands in a row without weight has no part in anything, be it NaN.
        counted_Bx1 = (weight_B > 0)[:, None]
        targets_BxT = jnp.where(counted_Bx1, targets_BxT, 0)
        out_BxT = jnp.where(counted_Bx1, out_BxT.astype(jnp.float32), 0)
        square_BxT = (out_BxT - targets_BxT) ** 2
        loss_B = square_BxT.sum(axis=-1) * weight_B
        sums: dict[str, Sum | Array] = {
            "loss": Sum(loss_B, weight_B),
            "r_squared": statistics.explained(out_BxT, targets_BxT, weight_B),
        }
        return Rows(loss_B, {}, sums)

    return Loss(rows_of, {})
