"""Evaluation: the mean loss of a set of windows, with its standard error.

Takes the parameters and `data.Batches`; gives plain floats. Tokens of one window are not
independent, so the standard error treats windows as the sample: a ratio estimator over clusters.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from scaling.data import Batches
from scaling.devices import sharding
from scaling.objectives.objective import Sum
from scaling.train.placement import host_rows, place_rows
from scaling.train.state import Layout, Parts


def compile_rows(pieces: Parts, plan: Layout) -> Callable[..., Any]:
    """`(params, batch) -> {name: Sum of [B]}`: each window apart, whole on every host."""
    return jax.jit(
        lambda params, batch: pieces.objective.rows(pieces.model, params, batch),
        in_shardings=(plan.shardings.params, sharding.batch_sharding(plan.mesh)),
        out_shardings=sharding.replicated(plan.mesh),
    )


def evaluate(
    rows_of: Callable[..., Any], params: Any, batches: Batches, mesh: jax.sharding.Mesh
) -> dict[str, float]:
    """loss (nats a token), its standard error, and every other mean that the objective gives."""
    where, size = sharding.batch_sharding(mesh), batches.batch_size
    rows = host_rows(size, mesh)
    pending = [
        rows_of(params, place_rows(batch, where, rows, size, axis=0))
        for _, batch in batches.stream(0, len(batches), rows)
    ]
    gathered = jax.device_get(pending)
    names = gathered[0].keys()
    return summarise({name: join([g[name] for g in gathered]) for name in names})


Column = tuple[np.ndarray, np.ndarray]  # totals and counts of W windows, float64


def join(pieces: Sequence[Sum]) -> Column:
    """The windows of several batches, one after the other."""
    totals = np.concatenate([np.asarray(p.total, np.float64) for p in pieces])
    return totals, np.concatenate([np.asarray(p.count, np.float64) for p in pieces])


def summarise(rows: Mapping[str, Column]) -> dict[str, float]:
    """Means over [W] windows of every entry, and `loss_se`, the standard error of "loss".

    loss = sum(l_i) / sum(c_i); its variance is W / (W - 1) sum((l_i - loss c_i)^2) / sum(c_i)^2
    (the linearised ratio estimator, Cochran, Sampling Techniques, section 6.3; no finite-population
    correction). Windows that are padding only have c_i = 0 and count for nothing.
    """
    means = {name: float(total.sum() / count.sum()) for name, (total, count) in rows.items()}
    used = rows["loss"][1] > 0
    sums, counts = (column[used] for column in rows["loss"])
    windows, tokens = len(counts), counts.sum()
    if windows > 1:
        residuals = sums - means["loss"] * counts
        variance = windows / (windows - 1) * np.sum(residuals**2) / tokens**2
        means["loss_se"] = math.sqrt(variance)
    return means | {"windows": windows, "tokens_evaluated": int(tokens)}
