"""What a run costs: parameters from shapes, FLOPs from the program, peak FLOP/s, and memory.

The loop asks `peak_flops` for the denominator of MFU, `sweep --dry_run` asks `estimate_bytes`; the
counts of `ledger` work for every model family, without a formula of its own. The closed formulas of
`scaling/ladder.py` are held against these counts by tests.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from scaling import chips, sharding
from scaling.config import RunConfig
from scaling.ladder import resolved, transformer_params
from scaling.ledger import Ledger, ledger
from scaling.models import build
from scaling.models.attention import keys_kept
from scaling.objectives import build as build_objective
from scaling.objectives import cross_entropy


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
    """Counts of loss and gradient over one training batch. The optimizer's update is left out:
    some ten FLOPs a parameter and step.
    """
    config = _without_kernels(config)
    return ledger(gradient(config), params_shapes(config), batch_shapes(config))


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


# ---- memory


@dataclass(frozen=True)
class Memory:
    """Bytes of one device in a train step; activations are rough."""

    params: float
    gradients: float
    optimizer: float  # moments and the average of the weights
    activations: float  # kept from the forward pass to the backward pass, and the logits

    @property
    def total(self) -> float:
        """All of it."""
        return self.params + self.gradients + self.optimizer + self.activations


_MOMENTS = {"adamw": 2.0, "lion": 1.0, "sgd": 1.0, "adafactor": 0.0}  # copies of the parameters


def estimate_bytes(config: RunConfig, devices: int = 1) -> Memory:
    """Memory of one of `devices` devices, by closed formula; compiles nothing.

    Parameters, gradients and moments are float32 and spread over the mesh axes fsdp, tensor, expert
    and stage; microbatches are spread over replica, data, fsdp, expert and seq, their heads and
    channels over tensor, the vocabulary over tensor and stage. Activations count what each
    operation of a block keeps for its backward pass, without what the compiler fuses away or keeps
    beside it.
    """
    mesh, model, train = config.mesh, config.model, config.train
    others = mesh.replica * mesh.fsdp * mesh.seq * mesh.tensor * mesh.expert * mesh.stage
    data = mesh.data or max(1, devices // (others * mesh.trial))
    params = 4.0 * transformer_params(model).total
    params /= mesh.fsdp * mesh.tensor * mesh.expert * mesh.stage
    moments = 0.0 if config.optim.offload else _MOMENTS[config.optim.name]
    copies = moments + (config.optim.ema_decay is not None)
    rows = train.batch_size / train.microbatches
    rows /= mesh.replica * data * mesh.fsdp * mesh.expert
    length, vocab = config.data.seq_len / mesh.seq, resolved(model.vocab)
    chunks = cross_entropy.pieces(math.ceil(rows), math.ceil(length), vocab, config.objective.chunk)
    # They, their softmax and their gradient.
    logits = 3 * 4 * vocab / (mesh.tensor * mesh.stage) / chunks
    activations = rows * length * (_activation_bytes(config) / mesh.stage + logits)
    return Memory(params, params, copies * params, activations)


def _activation_bytes(config: RunConfig) -> float:
    """Bytes a token that the blocks' forward pass leaves for the backward pass."""
    model, tensor = config.model, config.mesh.tensor
    size = jnp.dtype(model.dtype).itemsize
    heads, kv_heads, head_dim = model.heads, resolved(model.kv_heads), resolved(model.head_dim)
    matmuls = 2.0 * (heads + kv_heads) * head_dim  # queries, keys, values, attention's output
    hidden, slots = float(resolved(model.mlp_width)), 0.0
    if model.moe.experts:
        slots = model.moe.per_token * (model.moe.capacity_factor or 1.0)  # of a token
        hidden = resolved(model.moe.width) * (slots + model.moe.shared)
    matmuls += hidden * (2 if model.mlp == "gated" else 1)
    scores = heads * keys_kept(config.data.seq_len, model.window)
    weights = scores * (4 + (size if size < 4 else 0))
    turned = (heads + kv_heads) * head_dim * (2 if model.qk_norm else 1)
    kept_inside = size * (matmuls + turned + hidden) + weights
    residual = 2 * model.width * size  # the stream before each half of the block
    # What goes into the slots and what comes out of them is not split over tensor.
    block = residual * 2 + kept_inside / tensor + size * slots * 2 * model.width
    kept = {
        "none": block,
        "dots": residual + size * matmuls / tensor,
        "attention": residual / 2 + (size * head_dim + 4) * heads / tensor,
        "offload": residual / 2,
        "full": residual / 2,
    }
    live = 0 if model.remat == "none" else block  # one block at a time is computed again
    return model.depth * kept[model.remat] * pipeline_overhead(config) + live
