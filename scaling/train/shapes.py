"""The shapes of everything that a run's step takes, without an array of it: what is planned, traced
or compiled for devices that are not here begins with them. Called by `scaling/check`.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from scaling import optim
from scaling.config import RunConfig
from scaling.costs import counts
from scaling.devices import sharding
from scaling.train.state import Parts, TrainState, create, parts


@dataclass(frozen=True)
class StepShapes:
    """Of a resolved run."""

    pieces: Parts
    boxed: TrainState  # `jax.ShapeDtypeStruct`s in linen's boxes
    batch: dict[str, jax.ShapeDtypeStruct]
    hparams: dict[str, jax.ShapeDtypeStruct]

    @property
    def state(self) -> TrainState:
        """Without the boxes."""
        found: TrainState = sharding.unbox(self.boxed)
        return found

    @property
    def batch_bytes(self) -> int:
        """Of a whole batch."""
        return sum(s.size * s.dtype.itemsize for s in self.batch.values())

    def stacked(self) -> tuple[int, int, int]:
        """(parameters that lie stacked on an axis of layers, those of one layer of each stack, the
        others): what a program meets one layer at a time, and what it has whole.
        """
        inside = of_layer = outside = 0
        for axes, shape in sharding.named_shapes(self.boxed.params):
            size = math.prod(shape)
            if "layers" in axes:
                inside += size
                of_layer += size // shape[axes.index("layers")]
            else:
                outside += size
        return inside, of_layer, outside


def step_shapes(config: RunConfig) -> StepShapes:
    """Shapes of a resolved run's state, batch and hyper-parameters."""
    pieces = parts(config)
    boxed = jax.eval_shape(lambda seed: create(pieces, config, seed), jnp.uint32(0))
    return StepShapes(pieces, boxed, counts.batch_shapes(config), optim.hparams_shapes(config))
