"""Evaluation: the numbers of a set of examples, with their standard errors.

Takes the parameters and `data.Batches`; gives plain floats. Of each row (window, image) the device
gives statistics that add up; what is made of them is `scaling/metrics/finish.py`'s.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from scaling.config import RunConfig, choices
from scaling.data import Batches
from scaling.devices import sharding
from scaling.metrics.finish import Statistics, finish
from scaling.objectives.objective import Sum
from scaling.train.placement import host_rows, place_rows
from scaling.train.state import Layout, Parts


def compile_rows(pieces: Parts, plan: Layout) -> Callable[..., Any]:
    """`(params, batch) -> {name: statistic of [B, ...]}`: each row apart, whole on every host."""
    return jax.jit(
        lambda params, batch: pieces.objective.rows(pieces.model, params, batch),
        in_shardings=(plan.shardings.params, sharding.batch_sharding(plan.mesh)),
        out_shardings=sharding.replicated(plan.mesh),
    )


def evaluate(
    config: RunConfig,
    rows_of: Callable[..., Any],
    params: Any,
    batches: Batches,
    mesh: jax.sharding.Mesh,
) -> dict[str, float]:
    """Every number that the objective of a run measures, of one set."""
    where, size = sharding.batch_sharding(mesh), batches.batch_size
    rows = host_rows(size, mesh)
    pending = [
        rows_of(params, place_rows(batch, where, rows, size, axis=0))
        for _, batch in batches.stream(0, len(batches), rows)
    ]
    gathered = jax.device_get(pending)
    names = gathered[0].keys()
    return summarise(config, {name: join([g[name] for g in gathered]) for name in names})


def join(pieces: Sequence[Any]) -> Statistics:
    """The rows of several batches, one after the other, in float64: of a mean (totals, counts)."""
    if not isinstance(pieces[0], Sum):
        return np.concatenate([np.asarray(p, np.float64) for p in pieces])
    totals = np.concatenate([np.asarray(p.total, np.float64) for p in pieces])
    return totals, np.concatenate([np.asarray(p.count, np.float64) for p in pieces])


def summarise(config: RunConfig, rows: Mapping[str, Statistics]) -> dict[str, float]:
    """The numbers of a set's rows, and their standard errors as far as they can be said; how many
    `rows` counted, and how many units of data.
    """
    found = finish(rows, choices.objective(config.objective).metrics)
    known = {k: v for k, v in found.items() if not (k.endswith("_se") and math.isnan(v))}
    counts = rows["loss"][1]
    size = {"rows": int((counts > 0).sum()), f"{config.data.unit}s_evaluated": int(counts.sum())}
    return known | size
