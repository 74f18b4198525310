"""A run's first state and some updates, outside the loop, shared by the tests of this folder."""

from typing import Any

import jax
import numpy as np

from scaling import data
from scaling.config import RunConfig, programs
from scaling.devices import meshes, sharding
from scaling.train import state as state_lib
from scaling.train.placement import place
from scaling.train.step import compile_steps


def begun(config: RunConfig, devices: int = 1) -> Any:
    """(parts, layout, first state)."""
    pieces = state_lib.parts(config)
    mesh = meshes.make_mesh(config.mesh, jax.devices()[:devices])
    plan = state_lib.layout(pieces, config, mesh)
    return pieces, plan, state_lib.init(pieces, config, plan)


def curve(config: RunConfig, steps: int = 3, devices: int = 1) -> tuple[np.ndarray, Any]:
    """Losses of the first updates, and the parameters after them."""
    pieces, plan, state = begun(config, devices)
    stacked, whole = sharding.stacked_batch_sharding(plan.mesh), sharding.replicated(plan.mesh)
    losses = []
    with sharding.context(plan.mesh):
        run = compile_steps(pieces, config, plan)
        hparams = place(programs.hparams(config), whole)
        for step in range(steps):
            batch = {k: v[None] for k, v in data.train_batches(config).batch(step).items()}
            state, metrics = run(state, place(batch, stacked), place(np.int32(1), whole), hparams)
            losses += list(jax.device_get(metrics)["loss"])
    return np.array(losses), jax.device_get(state.params)
