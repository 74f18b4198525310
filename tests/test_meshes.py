"""Every mesh gives the curve of one device: each axis alone, and products of them.

Five steps in float32 of four blocks on eight CPU devices, from one state and on the same batches.
A program each to compile: most meshes are slow tests, and some products exhaustive ones.
"""

import functools
import math
from collections.abc import Mapping

import jax
import numpy as np
import pytest

from scaling import data
from scaling.config import RunConfig, override, programs, to_dict
from scaling.devices import meshes, sharding
from scaling.train import state as state_lib
from scaling.train.placement import place
from scaling.train.step import compile_steps

STEPS = 5
VOCAB = 264  # the tokenizer's 257, and enough to divide over the meshes
EXPERTS = {
    "model.moe.experts": 4,
    "model.moe.width": 8,
    "model.moe.capacity_factor": 1.0,
    "model.scan_layers": True,
    "objective.load_balance": 0.02,
    "objective.router_z": 0.002,
}
MODELS = {
    "dense": {"model.scan_layers": True},
    "experts": EXPERTS,
    "dropless experts": EXPERTS | {"model.moe.capacity_factor": None},
}
CIRCULAR = {"model.pipeline_repeats": 2}
RING = {"model.context_parallel": "ring"}

AXES = {
    "replica": {"mesh.replica": 4},
    "data": {"mesh.data": 8},
    "fsdp": {"mesh.fsdp": 8},
    "tensor": {"mesh.tensor": 2},
    "seq": {"mesh.seq": 4},
    "seq, ring": {"mesh.seq": 4} | RING,
    "expert": {"mesh.expert": 4},
    "stage": {"mesh.stage": 4},
    "stage, circular": {"mesh.stage": 2} | CIRCULAR,
}
PRODUCTS = {
    "replica data fsdp": {"mesh.replica": 2, "mesh.data": 2, "mesh.fsdp": 2},
    "replica fsdp stage": {"mesh.replica": 2, "mesh.fsdp": 2, "mesh.stage": 2},
    "data fsdp tensor": {"mesh.data": 2, "mesh.fsdp": 2, "mesh.tensor": 2},
    "data tensor stage": {"mesh.data": 2, "mesh.tensor": 2, "mesh.stage": 2},
    "data expert": {"mesh.data": 2, "mesh.expert": 4},
    "fsdp tensor": {"mesh.fsdp": 4, "mesh.tensor": 2},
    "fsdp tensor expert": {"mesh.fsdp": 2, "mesh.tensor": 2, "mesh.expert": 2},
    "fsdp tensor stage": {"mesh.fsdp": 2, "mesh.tensor": 2, "mesh.stage": 2} | CIRCULAR,
    "data seq tensor": {"mesh.data": 2, "mesh.seq": 2, "mesh.tensor": 2},
    "fsdp seq stage": {"mesh.fsdp": 2, "mesh.seq": 2, "mesh.stage": 2},
    "fsdp seq tensor, ring": {"mesh.fsdp": 2, "mesh.seq": 2, "mesh.tensor": 2} | RING,
    "seq expert stage": {"mesh.seq": 2, "mesh.expert": 2, "mesh.stage": 2},
    "seq tensor stage": {"mesh.seq": 2, "mesh.tensor": 2, "mesh.stage": 2} | CIRCULAR,
}
# Each group of devices along replica and data adds up its own pieces of the batch.
PIECES = {
    "replica fsdp tensor, in pieces": {"mesh.replica": 2, "mesh.fsdp": 2, "mesh.tensor": 2},
    "replica data seq, in pieces": {"mesh.replica": 2, "mesh.data": 2, "mesh.seq": 2},
    "replica data tensor, in pieces and chunks": {
        **{"mesh.replica": 2, "mesh.data": 2, "mesh.tensor": 2, "objective.chunk": 8}
    },
    "data tensor stage, in pieces": {"mesh.data": 2, "mesh.tensor": 2, "mesh.stage": 2},
}
PRODUCTS |= {name: axes | {"train.microbatches": 2} for name, axes in PIECES.items()}
SLOW = (
    *AXES,
    *("replica fsdp stage", "data fsdp tensor", "fsdp tensor expert"),
    *("fsdp seq tensor, ring", "replica fsdp tensor, in pieces"),
)
DROPLESS = ("expert", "fsdp tensor expert")
OF_EXPERTS = ("expert", "fsdp tensor expert", "seq expert stage")


def where(model: str) -> list[str]:
    """The meshes that a model is tried on: dropless, those that split experts."""
    every = [*AXES, *PRODUCTS]
    return [name for name in every if model != "dropless experts" or "expert" in name]


def marks(model: str, name: str) -> pytest.MarkDecorator:
    """Every axis, and some products, at each change; every other product now and then."""
    slow = name in (SLOW if model == "dense" else OF_EXPERTS if model == "experts" else DROPLESS)
    return pytest.mark.slow if slow else pytest.mark.exhaustive


CASES = [
    pytest.param(model, (AXES | PRODUCTS)[name], id=f"{name}, {model}", marks=marks(model, name))
    for model in MODELS
    for name in where(model)
]


class Runs:
    """The first steps of a model: its state before them and its batches, made once."""

    def __init__(self, config: RunConfig):
        self.config, self.pieces = config, state_lib.parts(config)
        batches = data.train_batches(config)
        self.batches = [batches.batch(i) for i in range(STEPS)]
        plan = self.plan(config)
        self.state = jax.device_get(state_lib.init(self.pieces, config, plan))

    def plan(self, config: RunConfig) -> state_lib.Layout:
        """Layout of the state on the config's mesh, over as many devices as it needs."""
        sizes = [size or 1 for size in to_dict(config.mesh).values()]
        mesh = meshes.make_mesh(config.mesh, jax.devices()[: math.prod(sizes)])
        meshes.check_batch(config, mesh)
        return state_lib.layout(self.pieces, config, mesh)

    def curve(self, config: RunConfig) -> tuple[np.ndarray, object]:
        """Losses of the steps and the parameters after them, by a config's execution fields."""
        plan = self.plan(config)
        rows, whole = sharding.stacked_batch_sharding(plan.mesh), sharding.replicated(plan.mesh)
        losses = []
        with sharding.context(plan.mesh):
            run = compile_steps(state_lib.parts(config), config, plan)
            state = place(self.state, plan.shardings)
            hparams = place(programs.hparams(config), whole)
            for batch in self.batches:
                batch = place({name: x[None] for name, x in batch.items()}, rows)
                state, metrics = run(state, batch, place(np.int32(1), whole), hparams)
                losses.append(metrics["loss"])
        return np.concatenate(jax.device_get(losses)), jax.device_get(state.params)


@pytest.fixture(scope="module")
def configure(tiny):
    """A resolved run of a model by name, on one device unless `fields` say otherwise."""

    def of(model: str, fields: Mapping[str, object] | None = None) -> RunConfig:
        config = tiny({"model.depth": 4, "mesh.data": 1} | MODELS[model] | dict(fields or {}))
        return override(config, {"model.vocab": VOCAB})

    return of


@pytest.fixture(scope="module")
def references(configure):
    """A model's `Runs` and its curve on one device."""

    @functools.cache
    def of(model: str):
        runs = Runs(configure(model))
        return runs, runs.curve(runs.config)

    return of


@pytest.mark.parametrize(("model", "fields"), CASES)
def test_every_mesh_gives_the_same_curve(configure, references, model: str, fields):
    runs, (expected, expected_params) = references(model)
    losses, params = runs.curve(configure(model, fields))
    # Float32 sums in another order: 1e-5 relative is what the design promises.
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert losses[-1] < losses[0]
    for ours, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(expected_params), strict=True):
        # Adam divides by the root of tiny second moments, which enlarges the rounding of single
        # elements: the leaf as a whole is compared.
        assert np.linalg.norm(ours - theirs) <= 1e-4 * np.linalg.norm(theirs)
