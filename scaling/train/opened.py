"""The newest state of a run, read back on one device. Called by what looks at a trained model."""

from dataclasses import dataclass
from typing import Any

import jax

from scaling.config import MeshConfig, RunConfig
from scaling.devices import meshes
from scaling.errors import CheckpointError
from scaling.records import RunDirectory
from scaling.train import state as state_lib
from scaling.train.checkpoint import Checkpoints
from scaling.train.state import Layout, Parts, TrainState
from scaling.transforms import transform


@dataclass(frozen=True)
class Opened:
    """A run with its newest state."""

    config: RunConfig
    pieces: Parts
    plan: Layout
    state: TrainState

    @property
    def used(self) -> Any:
        """The parameters that evaluation takes, as the family's module uses them."""
        return transform.used(self.config, self.state.evaluated)


def newest(run: RunDirectory) -> Opened:
    """Raises CheckpointError where the run has no checkpoint yet."""
    config = run.config()
    pieces = state_lib.parts(config)
    plan = state_lib.layout(pieces, config, meshes.make_mesh(MeshConfig(), jax.devices()[:1]))
    path, state = run.path / "checkpoints", None
    if path.exists():
        with Checkpoints(path, config) as checkpoints:
            state = checkpoints.restore(plan.abstract)
    if state is None:
        raise CheckpointError(f"{path} has no checkpoint yet; train the run first")
    return Opened(config, pieces, plan, state)
