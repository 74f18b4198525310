"""What a run costs: parameters from shapes, FLOPs from the program, and peak FLOP/s.

The loop asks `peak_flops` for the denominator of MFU; the counts of `ledger` work for every
model family, without a formula of its own. The closed formulas of `scaling/ladder.py` are held
against these counts by tests.
"""

import dataclasses
import functools
import math
import re
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from scaling import chips, optim, sharding
from scaling.config import RunConfig
from scaling.ledger import Ledger, ledger, scopes
from scaling.models import build
from scaling.objectives import build as build_objective


def batch_shapes(config: RunConfig) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a training batch of a resolved run."""
    shape = (config.train.batch_size, config.data.seq_len)
    names = ("tokens", "targets", "positions") + ("segment_ids",) * config.data.mask_documents
    integers = dict.fromkeys(names, jnp.int32)
    dtypes = integers | {"loss_mask": jnp.float32, "target_bytes": jnp.float32}
    return {name: jax.ShapeDtypeStruct(shape, dtype) for name, dtype in dtypes.items()}


def params_shapes(config: RunConfig) -> Any:
    """The parameters' shapes, as nested dicts of `jax.ShapeDtypeStruct`; allocates nothing."""
    model, batch = build(config.model), batch_shapes(config)
    # The key is made while tracing: the context's mesh may be of devices that are not here.
    boxed = jax.eval_shape(lambda batch: model.init(jax.random.key(0), batch), batch)
    return sharding.unbox(boxed)["params"]


def count_params(config: RunConfig) -> int:
    """Parameters of a resolved run's model, counted from their shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params_shapes(config)))


def forward_ledger(config: RunConfig) -> Ledger:
    """Counts of the model's forward pass, head and loss included, over one training batch.

    Inside `sharding.context`, this and `train_ledger` count what the whole mesh executes: with
    stages, the blocks also compute the pipeline's bubble (`pipeline_overhead`); with mesh.seq,
    every device is counted as the one whose queries see most keys.
    """
    config = _without_kernels(config)
    return ledger(forward(config), params_shapes(config), batch_shapes(config))


def train_ledger(config: RunConfig) -> Ledger:
    """Counts of loss and gradient over one training batch. `optimizer_ledger` has the
    update's.
    """
    config = _without_kernels(config)
    return ledger(gradient(config), params_shapes(config), batch_shapes(config))


PASSES = ("forward", "backward", "remat")


def parts_ledger(config: RunConfig) -> dict[str, dict[str, Ledger]]:
    """`train_ledger` cut by part of the model, and by pass: part -> pass -> counts.

    Parts: embedding, attention (its projections), attention_scores (softmax included), mlp, router,
    experts (dispatch included), shared_experts, norms, head (the loss included), other (residual
    sums, masks). Passes: `PASSES`; remat is what the backward pass computes once more.
    """
    config = _without_kernels(config)
    parts: dict[str, dict[str, Ledger]] = {}
    counts = scopes(gradient(config), params_shapes(config), batch_shapes(config))
    for scope, count in counts.items():
        passes = parts.setdefault(_part(scope), dict.fromkeys(PASSES, Ledger()))
        passes[_pass(scope)] += count
    return parts


def _pass(scope: str) -> str:
    if "rematted_computation" in scope:
        return "remat"
    return "backward" if "transpose(" in scope else "forward"


def _part(scope: str) -> str:
    names = set(re.split(r"[/()]+", scope))
    if any(name.endswith("norm") for name in names):
        return "norms"
    if "attention" in names:
        projections = {"query", "key", "value", "out"}
        return "attention" if names & projections else "attention_scores"
    of_moe = {"router": "router", "shared": "shared_experts", "moe": "experts"}
    for name, part in (of_moe | {n: n for n in ("mlp", "embedding", "head")}).items():
        if name in names:
            return part
    return "other"


def optimizer_ledger(config: RunConfig) -> Ledger:
    """Counts of the optimizer's update, clipping included: some twenty FLOPs a parameter."""
    optimizer, params = optim.build(config.optim), params_shapes(config)
    hparams = optim.hparams_shapes(config)
    state = jax.eval_shape(optimizer.init, params)
    step = jax.ShapeDtypeStruct((), jnp.int32)
    return ledger(optimizer.update, params, state, params, step, hparams)


def _without_kernels(config: RunConfig) -> RunConfig:
    """The run with attention in plain JAX, whose blocks are those that a kernel works through: what
    a kernel does cannot be read off the program.
    """
    model = dataclasses.replace(config.model, attention="blockwise")
    return dataclasses.replace(config, model=model)


def pipeline_overhead(config: RunConfig) -> float:
    """What the blocks execute over what counts: (M R + S - 1) / (M R) with S stages, M microbatches
    and R repeats (`scaling/models/pipeline.py`). 1 without stages.

    The closed formulas, and so MFU, have the FLOPs that count.
    """
    stages, repeats = config.mesh.stage, config.model.pipeline_repeats
    visits = (config.model.pipeline_microbatches or stages) * repeats
    return (visits + stages - 1) / visits if stages > 1 else 1.0


def forward(config: RunConfig) -> Callable[[Any, Any], Any]:
    """(params, batch) -> sums of every row, of a resolved run."""
    model, objective = build(config.model), build_objective(config.objective)
    return lambda params, batch: objective.rows(model, params, batch)


def gradient(config: RunConfig) -> Callable[[Any, Any], Any]:
    """(params, batch) -> ((loss, sums), gradients) of a resolved run."""
    model, objective = build(config.model), build_objective(config.objective)

    def loss(params: Any, batch: Any) -> Any:
        return objective.loss(model, params, batch, jax.random.key(0))

    return jax.value_and_grad(loss, has_aux=True)


# ---- of a device


def peak_flops(device: jax.Device, dtype: str) -> float | None:
    """FLOP/s that one device can at most do in matmuls of `dtype`: the denominator of MFU.

    float32 is counted as JAX runs it by default: in one bfloat16 pass on a TPU, in TF32 on a GPU,
    at half of the bfloat16 rate. A CPU's peak is measured, and shared among its devices. None for a
    device that is not in the table.
    """
    if device.platform == "cpu":
        return measured_cpu_peak() / jax.local_device_count("cpu")
    chip = chips.of_device(device.device_kind)
    return None if chip is None else chip.peak(dtype)


@functools.cache
def measured_cpu_peak() -> float:
    """FLOP/s of this machine's CPU in a float32 matmul, all cores; measured once, in 0.1 s."""
    size, chain = 768, 4
    with jax.default_device(jax.devices("cpu")[0]):
        matrix = jax.jit(lambda: jnp.full((size, size), 1 / size))()
        run = jax.jit(lambda m: functools.reduce(jnp.matmul, [m] * chain, m))
        run(matrix).block_until_ready()
        seconds = []
        for _ in range(8):
            begin = time.perf_counter()
            run(matrix).block_until_ready()
            seconds.append(time.perf_counter() - begin)
    return chain * 2 * size**3 / min(seconds)
