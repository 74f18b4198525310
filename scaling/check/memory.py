"""What a device must hold in a train step, without compiling it.

The state's bytes come from its shapes and the sharding table; the rest from a walk over the jaxpr
of the step that one device makes (`liveness.py`). `sweep --dry_run` prints it; `launch.py check`
asks the compiler instead.
"""

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from scaling.check import liveness
from scaling.config import (
    OptimConfig,
    RunConfig,
    choices,
    to_dict,
)
from scaling.config.programs import program_of
from scaling.devices import meshes, sharding
from scaling.train import step as step_lib
from scaling.train.shapes import StepShapes, step_shapes


@dataclass(frozen=True)
class Memory:
    """Bytes of one device in a train step."""

    params: float
    optimizer: float  # moments that are not in the host's memory, the average of the weights
    batch: float
    temporaries: float  # gradients, activations, logits

    @property
    def total(self) -> float:
        """All of it."""
        return self.params + self.optimizer + self.batch + self.temporaries


def estimate_bytes(config: RunConfig, devices: int = 1, platform: str | None = None) -> Memory:
    """Memory of one of `devices` devices in a step of a resolved run.

    Args:
      devices: of the run; a mesh whose data axis is not given takes what the others leave.
      platform: of the devices; None: as here.

    Raises ConfigError where an axis of the state does not divide over the mesh.
    """
    sizes: dict[str, int] = {k: v for k, v in to_dict(config.mesh).items() if v is not None}
    sizes.setdefault("data", max(1, devices // math.prod(sizes.values())))
    mesh: Any = meshes.abstract_mesh(sizes)
    rows = math.prod(sizes[axis] for axis in meshes.BATCH_AXES)
    shapes = step_shapes(config)
    table = sharding.check(shapes.boxed, sharding.state_shardings(shapes.boxed, mesh), mesh)
    params = sum(r.bytes_per_device for r in table if r.path.startswith("params"))
    others = [r for r in table if not r.path.startswith("params")]
    if config.optim.offload:
        others = [r for r in others if not r.path.startswith("opt_state")]
    batch = shapes.batch_bytes / rows
    platform = platform or jax.default_backend()
    part, wide = _part(config, sizes), platform == "cpu"
    whole, gradients = _of_one_device(part, wide)
    # In a pipeline every visit of a microbatch leaves its activations, the bubble's too.
    bubble = meshes.pipeline_overhead(config)
    temporaries = (whole - gradients) * bubble + gradients
    ways = sizes["fsdp"] * sizes["expert"]
    if ways > 1:
        # The update is of a device's own part; so are the gradients, but for those at hand.
        before, gathered = _before_update(part, wide)
        temporaries = (before - gradients) * bubble + gradients / ways + gathered
        temporaries = max(temporaries, whole / ways)
    return Memory(params, sum(r.bytes_per_device for r in others), batch, temporaries)


@dataclass(frozen=True)
class _Part:
    """What the step of one device depends on."""

    model: Any
    data: Any
    objective: Any
    optimizer: OptimConfig
    transform: Any
    rows: int  # of a microbatch
    microbatches: int


def _part(config: RunConfig, sizes: dict[str, int]) -> _Part:
    """The run that one device makes of a run: its rows, its part of their length and of the model.
    Hyper-parameters are at common values: they are not part of the program.
    """

    def share(size: int, *axes: str) -> int:
        return max(1, math.ceil(size / math.prod(sizes[axis] for axis in axes)))

    program, train, family = program_of(config), config.train, choices.family(config.model)
    model = family.readable(program.model)  # what a kernel keeps cannot be read off the program
    if family.part is not None:
        model = family.part(model, sizes)
    units = share(config.data.units_per_example, "seq")
    data = choices.kind(config.data).shortened(config.data, units)
    optimizer = replace(program.optim, offload=False)  # where the moments lie between steps
    rows = share(train.batch_size // train.microbatches, *meshes.BATCH_AXES)
    return _Part(
        model, data, program.objective, optimizer, config.transform, rows, train.microbatches
    )


@functools.lru_cache(maxsize=1024)
def _of_one_device(part: _Part, wide: bool) -> tuple[float, float]:
    """(temporaries, gradients) of the step of one device, in bytes."""
    shapes = _alone(part)
    step = functools.partial(step_lib.train_step, shapes.pieces, part.microbatches)
    traced = jax.make_jaxpr(step)(shapes.state, shapes.batch, shapes.hparams)
    trained = shapes.pieces.trained(shapes.state.params)
    gradients = 4.0 * sum(leaf.size for leaf in jax.tree.leaves(trained))
    return liveness.peak_bytes(traced, wide), gradients


@functools.lru_cache(maxsize=1024)
def _before_update(part: _Part, wide: bool) -> tuple[float, float]:
    """(temporaries, gathered) of one device up to the gradients, in bytes.

    Gathered is what a device holds whole of parameters that lie in parts: those outside of stacked
    layers in the compute dtype, and their float32 gradient; of the layers likewise one at a time,
    and where it comes while another one computes (not on a CPU) the next one.
    """
    shapes = _alone(part)
    gradients = functools.partial(step_lib.gradients, shapes.pieces, part.microbatches)
    key = jax.eval_shape(lambda: jax.random.key(0))
    traced = jax.make_jaxpr(gradients)(shapes.state.params, shapes.batch, shapes.hparams, key)
    _, layer, outside = shapes.stacked()
    copy = 4.0 if wide else float(jnp.dtype(part.model.dtype).itemsize)
    ahead = 0.0 if wide else copy
    gathered = (4 + copy) * outside + (4 + copy + ahead) * layer
    return liveness.peak_bytes(traced, wide), gathered


def _alone(part: _Part) -> StepShapes:
    """The shapes of the run of one device."""
    base = RunConfig(
        model=part.model,
        data=part.data,
        optim=part.optimizer,
        objective=part.objective,
        transform=part.transform,
    )
    rows, pieces = part.rows * part.microbatches, part.microbatches
    train = replace(base.train, batch_size=rows, microbatches=pieces, steps=1)
    return step_shapes(replace(base, train=train))
