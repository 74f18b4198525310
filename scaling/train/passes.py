"""What an evaluation set's pass computes of a batch, and what it has fitted before.

Takes the pure pieces of a run; gives functions of parameters and batch, which `evaluate.py`
compiles for one run and `packed.py` for many, and the fit on the host between two of them.
`scaling/config/passes.py` says what a pass needs, `scaling/metrics/declared.py` what it measures.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling import data
from scaling.config import RunConfig, passes
from scaling.data import Batches
from scaling.metrics import linear_probe, statistics
from scaling.train.state import Parts
from scaling.train.step import Batch

# (params, batch, *given) -> arrays; `given` is what was fitted before.
Function = Callable[..., Any]
# (name of a function, slot -> batches, slot -> given) -> of each batch, slot -> arrays on the host,
# of the slots whose batches have not ended. A run alone is slot 0.
Each = Callable[[str, Mapping[int, Batches], Mapping[int, Any]], Iterator[dict[int, Any]]]

FITTED = ("scores",)  # the functions that are given something


@dataclass(frozen=True)
class EvalSet:
    """What is read for an evaluation set of a run."""

    batches: Batches
    fit: Batches | None  # what its probe is fitted to, if it has one


def eval_set(config: RunConfig, name: str) -> EvalSet:
    """The set `name` of a resolved run. Raises DataError (`data.eval_batches`)."""
    probes = config.evals.sets[name].by == "features"
    fit = data.probe_batches(config, name) if probes else None
    return EvalSet(data.eval_batches(config, name), fit)


def function_of(config: RunConfig, name: str) -> str:
    """Which of the `functions` gives the statistics of the set `name`."""
    return {"rows": "rows", "features": "scores"}[config.evals.sets[name].by]


def functions(pieces: Parts, config: RunConfig) -> dict[str, Function]:
    """By name; each is pure. Statistics are {metric: [B, ...]}, as `metrics/finish.py` takes them.

    rows: what the objective measures. moments: (sums [N, N], mean [F]) of a whole batch
    (`statistics.centred_moments`). scores: of the probe whose coefficients are given.
    """

    def rows(params: Any, batch: Batch) -> Any:
        return pieces.objective.rows(pieces.model, params, batch)

    def features(params: Any, batch: Batch) -> jax.Array:
        outputs: Any = pieces.model.apply({"params": params}, batch)
        return outputs["features"].astype(jnp.float32)

    def moments(params: Any, batch: Batch) -> Any:
        labels: Any = getattr(config.data, "classes", None)
        targets_BxT = jax.nn.one_hot(batch["label"], labels) if labelled else batch["targets"]
        weight_B = batch["weight"].astype(jnp.float32)
        return statistics.centred_moments(features(params, batch), targets_BxT, weight_B)

    def scores(params: Any, batch: Batch, coefficients: jax.Array) -> Any:
        weight_B, features_BxF = batch["weight"].astype(jnp.float32), features(params, batch)
        if labelled:
            hits_Bx2 = statistics.hits(features_BxF, batch["label"], weight_B, coefficients)
            return {"probe_accuracy": hits_Bx2}
        out_BxT = statistics.read_out(features_BxF, coefficients)
        parts_BxTx4 = statistics.explained(out_BxT, batch["targets"], weight_B)
        return {
            "probe_error": jnp.stack([parts_BxTx4[..., 3].sum(axis=1), weight_B], axis=1),
            "probe_r_squared": parts_BxTx4,
        }

    labelled = passes.probed(config) == "label"
    return {"rows": rows, "moments": moments, "scores": scores}


def fitted(
    configs: Mapping[int, RunConfig], sets: Mapping[int, EvalSet], name: str, each: Each
) -> dict[int, np.ndarray]:
    """Slot -> the coefficients [1 + F, T] of the probe of the set `name`, float32; of a set that
    needs none, nothing.
    """
    fits = {slot: one.fit for slot, one in sets.items() if one.fit is not None}
    sums: dict[int, Any] = dict.fromkeys(fits, 0.0)
    features = 0
    for of_batch in each("moments", fits, {}) if fits else ():
        for slot, (centred, mean) in of_batch.items():
            sums[slot] = sums[slot] + linear_probe.uncentred(centred, mean)
            features = len(mean)
    return {
        slot: linear_probe.relative(total, features, configs[slot].evals.sets[name].ridge)
        for slot, total in sums.items()
    }


def fetched(calls: Iterable[Any], most: int = 2) -> Iterator[Any]:
    """The results of calls on the host, `most` further ones dispatched by then."""
    pending: list[Any] = []
    for call in calls:
        pending.append(call)
        if len(pending) > most:
            yield jax.device_get(pending.pop(0))
    for call in pending:
        yield jax.device_get(call)
