"""Trained weights made smaller: rounded to few bits, written, read back and evaluated.

Takes a finished run; gives its parameters as they are written (`records/packed_weights.py`), and a
row of numbers for each way to round them: what the model then loses, how large the file is, how
fast it runs. Called by `launch.py compress`; nothing is trained.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from scaling import data
from scaling.config import BeginsConfig, DistillConfig, RunConfig, choices
from scaling.costs import sizes
from scaling.devices import meshes, sharding
from scaling.models import rounding
from scaling.optim import subtree
from scaling.records import RunDirectory, packed_weights
from scaling.records.packed_weights import FLOAT, Tensor
from scaling.train import passes
from scaling.train import state as state_lib
from scaling.train.correction import corrected, grams
from scaling.train.evaluate import Evaluator
from scaling.train.opened import newest
from scaling.transforms import transform

How = Literal["round", "gptq"]
_CALIBRATION = 4  # batches of training whose inputs the correction weighs
_REPEATS = 5  # of a call that is timed; the fastest counts


def judge(
    run: RunDirectory, bits: Sequence[int], hows: Sequence[How], folder: epath.Path
) -> list[dict[str, Any]]:
    """A row for the weights as they are, and for each way and number of bits; their files lie in
    `folder`. Raises CheckpointError for a run without a checkpoint.
    """
    opened = newest(run)
    trained = opened.config
    config = _plain(trained)
    pieces = state_lib.parts(config)
    plan = state_lib.layout(pieces, config, meshes.make_mesh(config.mesh, jax.devices()[:1]))
    evaluator, cost = Evaluator(config, pieces, plan), sizes.cost(trained)
    program = _program(passes.function(pieces, config, passes.program_of(config, "val")))
    used = _leaves(opened.used)
    weighed = grams(config, used, _batches(config)) if "gptq" in hows else {}
    rows, reference = [], None
    with sharding.context(plan.mesh):
        _, batch = next(iter(data.eval_batches(config, "val").stream(0, 1)))
        for how, width in [("none", FLOAT), *((how, b) for how in hows for b in bits)]:
            begun = _unrounded(opened, width) if width != FLOAT else used
            tensors = rounded(config, begun, width, weighed if how == "gptq" else {})
            path = folder / f"{run.path.name}-{how}-{width}bits.safetensors"
            written = packed_weights.write(path, tensors)
            started = time.perf_counter()
            read = packed_weights.read(path)
            seconds = time.perf_counter() - started
            whole = subtree.nested({name: one.whole for name, one in read.items()})
            loss = evaluator(jax.device_put(whole, plan.shardings.params))["val"]["loss"]
            reference = loss if reference is None else reference
            kept = {name: one.form for name, one in tensors.items()}
            rows.append(
                {
                    **{"name": run.path.name, "how": how, "bits": width},
                    **{"width": config.model.width, "depth": config.model.depth},
                    **{"params": cost.params, "amount": cost.amount},
                    **{f"{config.data.unit}s": cost.amount, "loss": loss},
                    **{"loss_before": reference, "loss_rise": loss - reference},
                    "density": sum(one.nonzero for one in kept.values()) / cost.params,
                    "bytes": epath.Path(path).stat().length,
                    **{"bytes_promised": packed_weights.promised(kept), "bytes_written": written},
                    **{"read_s": seconds, "batch_s": _seconds(program, read, batch)},
                }
            )
    return rows


def _plain(config: RunConfig) -> RunConfig:
    """The run of the same model, whose parameters are stored as they are used."""
    optim: dict[str, Any] = {"parametrization": "standard", "base_width": None, "base_depth": None}
    return dataclasses.replace(
        config,
        transform=choices.new("transform"),
        begins=BeginsConfig(),
        distill=DistillConfig(),
        optim=dataclasses.replace(config.optim, **optim),
    )


def _leaves(params: Any) -> dict[str, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in subtree.leaves(jax.device_get(params))}


def _unrounded(opened: Any, bits: int) -> dict[str, np.ndarray]:
    """The weights as used; of a run that trained with so many bits, as they were before it rounded
    them: to round what is rounded would lose once more.
    """
    config, params = opened.config, opened.state.evaluated
    if choices.transform(config.transform).bits(config.transform) == bits:
        plain = dataclasses.replace(config, transform=choices.new("transform"))
        return _leaves(transform.used(plain, params))
    return _leaves(opened.used)


def _batches(config: RunConfig) -> list[Any]:
    batches = data.train_batches(config)
    return [batches.batch(step) for step in range(_CALIBRATION)]


def rounded(
    config: RunConfig,
    params: Mapping[str, np.ndarray],
    bits: int,
    weighed: Mapping[str, np.ndarray],
) -> dict[str, Tensor]:
    """The parameters with every matrix on the levels of `bits`, a scale an output channel; those
    whose inputs' second moments are given, corrected for them.
    """
    leaves, found = transform.leaves(config), {}
    for path, w in params.items():
        if bits == FLOAT or not leaves[path].ins:
            found[path] = Tensor(np.asarray(w, np.float32))
            continue
        scale = np.asarray(rounding.scale(jnp.asarray(w), leaves[path].ins, bits))
        if path in weighed:
            codes = corrected(w, scale, bits, leaves[path], weighed[path])
        else:
            codes = np.asarray(rounding.codes(jnp.asarray(w), jnp.asarray(scale), bits))
        found[path] = Tensor(codes, bits, scale)
    return found


def _program(function: Callable[..., Any]) -> Callable[..., Any]:
    """(stored, batch) -> what `function` makes of the batch: whole numbers become floats within."""

    def call(stored: Mapping[str, Any], batch: Any) -> Any:
        floats = {
            name: parts[0] if len(parts) == 1 else rounding.values(*parts)
            for name, parts in stored.items()
        }
        return function(subtree.nested(floats), batch)

    return jax.jit(call)


def _seconds(program: Callable[..., Any], tensors: Mapping[str, Tensor], batch: Any) -> float:
    """Of one evaluated batch, the parameters in memory as they are read."""
    stored = {
        name: (one.values,) if one.scale is None else (one.values, one.scale)
        for name, one in tensors.items()
    }
    placed = jax.device_put((stored, dict(batch)))
    jax.block_until_ready(program(*placed))
    found = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        jax.block_until_ready(program(*placed))
        found.append(time.perf_counter() - started)
    return min(found)
