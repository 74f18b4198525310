"""Evaluation: the numbers of sets of examples, with their standard errors.

Takes parameters and what is read for a set (`passes.EvalSet`); gives plain floats. Of each row
(window, image) the device gives statistics that add up; what is made of them is
`scaling/metrics/finish.py`'s. `measure` is the order of things, of one run (`Evaluator`) as of a
packed group.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from scaling.config import RunConfig, passes
from scaling.data import Batches
from scaling.devices import sharding
from scaling.metrics.finish import Statistics, finish
from scaling.objectives.objective import Sum
from scaling.train.passes import (
    Each,
    EvalSet,
    Program,
    eval_set,
    fetched,
    fitted,
    function,
    program_of,
)
from scaling.train.placement import host_rows, place, place_rows
from scaling.train.state import Layout, Parts
from scaling.train.written import scored


class Evaluator:
    """The evaluation sets of one run, and their programs, compiled when they are first called."""

    def __init__(self, config: RunConfig, pieces: Parts, plan: Layout):
        self._config, self._plan = config, plan
        self._pieces = pieces
        self._sets = {name: eval_set(config, name) for name in config.evals.sets}
        self._compiled = functools.cache(self._compile)

    def __call__(self, params: Any) -> dict[str, dict[str, float]]:
        """Every number of every set, by the set's name."""
        each = functools.partial(self._each, params)
        return {
            name: measure({0: self._config}, {0: one}, name, each)[0]
            for name, one in self._sets.items()
        }

    def _compile(self, program: Program) -> Callable[..., Any]:
        """`(params, batch, *given)` -> arrays whole on every host."""
        mesh = self._plan.mesh
        whole = sharding.replicated(mesh)
        given = (whole,) * program.given
        return jax.jit(
            function(self._pieces, self._config, program),
            in_shardings=(self._plan.shardings.params, sharding.batch_sharding(mesh), *given),
            out_shardings=whole,
        )

    def _each(
        self, params: Any, program: Program, sets: Mapping[int, Batches], given: Mapping[int, Any]
    ) -> Iterator[dict[int, Any]]:
        """See `passes.Each`."""
        mesh, batches, call = self._plan.mesh, sets[0], self._compiled(program)
        where, size = sharding.batch_sharding(mesh), batches.batch_size
        rows = host_rows(size, mesh)
        placed = place([given[0]] if given else [], sharding.replicated(mesh))
        calls = (
            call(params, place_rows(batch, where, rows, size, axis=0), *placed)
            for _, batch in batches.stream(0, len(batches), rows)
        )
        for outputs in fetched(calls):
            yield {0: outputs}


def measure(
    configs: Mapping[int, RunConfig], sets: Mapping[int, EvalSet], name: str, each: Each
) -> dict[int, dict[str, float]]:
    """Slot -> every number of the evaluation set `name` of its run."""
    program = program_of(next(iter(configs.values())), name)
    found: dict[int, list[Any]] = {slot: [] for slot in sets}
    given = fitted(configs, sets, name, each)
    for of_batch in each(program, {slot: one.batches for slot, one in sets.items()}, given):
        for slot, outputs in of_batch.items():
            found[slot].append(scored(configs[slot], program, outputs))
    return {
        slot: summarise(
            configs[slot], name, {key: join([g[key] for g in gathered]) for key in gathered[0]}
        )
        for slot, gathered in found.items()
    }


def join(pieces: Sequence[Any]) -> Statistics:
    """The rows of several batches, one after the other, in float64: of a mean (totals, counts)."""
    if not isinstance(pieces[0], Sum):
        return np.concatenate([np.asarray(p, np.float64) for p in pieces])
    totals = np.concatenate([np.asarray(p.total, np.float64) for p in pieces])
    return totals, np.concatenate([np.asarray(p.count, np.float64) for p in pieces])


def summarise(config: RunConfig, name: str, rows: Mapping[str, Statistics]) -> dict[str, float]:
    """The numbers of the rows of the set `name`, and their standard errors as far as they can be
    said; how many `rows` counted, and, of a set by rows, how many units of data.
    """
    found = finish(rows, passes.metrics(config, name))
    known = {k: v for k, v in found.items() if not (k.endswith("_se") and math.isnan(v))}
    if "loss" not in rows:
        counted = np.any(np.asarray(next(iter(rows.values()))) != 0, axis=1)
        return known | {"rows": int(counted.sum())}
    counts = rows["loss"][1]
    rows_counted, data = int((counts > 0).sum()), config.data
    # Of an example of many units each counts once; else a count may be of something within it.
    units = int(counts.sum()) if data.units_per_example > 1 else rows_counted
    return known | {"rows": rows_counted, f"{data.unit}s_evaluated": units}
