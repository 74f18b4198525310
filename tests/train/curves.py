"""The first steps of a run outside the loop, shared by the tests of this folder."""

from typing import Any

import jax
import numpy as np

from scaling import data
from scaling.config import RunConfig, programs
from scaling.devices import meshes, sharding
from scaling.train import state as state_lib
from scaling.train.placement import place
from scaling.train.step import compile_steps


def curve(config: RunConfig, steps: int = 4, devices: int = 1) -> tuple[np.ndarray, Any]:
    """Losses of the first steps on the first devices, and the parameters after them."""
    pieces = state_lib.parts(config)
    mesh = meshes.make_mesh(config.mesh, jax.devices()[:devices])
    plan = state_lib.layout(pieces, config, mesh)
    stacked, whole = sharding.stacked_batch_sharding(mesh), sharding.replicated(mesh)
    batches = data.train_batches(config)
    size = config.train.steps_per_call
    losses = []
    with sharding.context(mesh):
        state = state_lib.init(pieces, config, plan)
        run = compile_steps(pieces, config, plan)
        hparams = place(programs.hparams(config), whole)
        for start in range(0, steps, size):
            taken = [batches.batch(start + i) for i in range(size)]
            batch = place({k: np.stack([b[k] for b in taken]) for k in taken[0]}, stacked)
            state, metrics = run(state, batch, place(np.int32(size), whole), hparams)
            losses += list(jax.device_get(metrics)["loss"])
    return np.array(losses), jax.device_get(state.params)
