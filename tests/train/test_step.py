"""The step is one function: cut into pieces or repeated in one call, it gives the same curve.

`tests/test_meshes.py` spreads it over meshes.
"""

import functools
import math

import jax
import numpy as np
import pytest
from curves import curve

from scaling import data
from scaling.check import program as program_lib
from scaling.config import MeshConfig, programs
from scaling.devices import meshes, sharding
from scaling.train import state as state_lib
from scaling.train.placement import place
from scaling.train.step import compile_steps, gradients


@pytest.fixture(scope="module")
def one_device(tiny):
    return curve(tiny())[0]


def test_microbatches_equal_the_full_batch(tiny, one_device):
    losses, _ = curve(tiny({"train.microbatches": 4}))
    np.testing.assert_allclose(losses, one_device, rtol=1e-6)


@pytest.mark.slow
def test_microbatches_with_unequal_masks_equal_the_full_batch(tiny):
    """The pieces have different token counts: the mean must be over all tokens, not of means."""
    config = tiny()
    pieces = state_lib.parts(config)
    plan = state_lib.layout(pieces, config, meshes.make_mesh(config.mesh, jax.devices()[:1]))
    params = jax.device_get(state_lib.init(pieces, config, plan).params)
    batch = data.train_batches(config).batch(0)
    batch["loss_mask"] = (np.arange(8)[:, None] * 2 > np.arange(16)[None, :]).astype(np.float32)
    hparams = programs.hparams(config)
    key = jax.random.key(0)

    def compute(microbatches: int):
        return jax.jit(lambda: gradients(pieces, microbatches, params, batch, hparams, key)[0])()

    full, cut = compute(1), compute(4)
    with sharding.context(meshes.make_mesh(MeshConfig(replica=2, data=2), jax.devices()[:4])):
        of_groups = compute(2)
    for a, b, c in zip(*map(jax.tree.leaves, (full, cut, of_groups)), strict=True):
        # Against the size of the whole leaf: an element may be a small difference of large terms.
        assert np.linalg.norm(a - b) <= 1e-6 * np.linalg.norm(a)
        assert np.linalg.norm(a - c) <= 1e-6 * np.linalg.norm(a)


@pytest.mark.parametrize(
    "fields",
    [
        {"train.microbatches": 4},
        pytest.param({"model.depth": 2, "mesh.stage": 2}, marks=pytest.mark.slow),
    ],
)
def test_gradients_of_microbatches_meet_once_a_step(tiny, fields):
    """What is sent between replicas is one gradient, however many pieces it was made of, be they
    the step's or the pipeline's.
    """
    config = tiny({"mesh.replica": 2, "mesh.data": 1} | fields)
    stages = config.mesh.stage
    mesh = meshes.make_mesh(config.mesh, jax.devices()[: 2 * stages])
    pieces = state_lib.parts(config)
    plan = state_lib.layout(pieces, config, mesh)
    batch = data.train_batches(config).batch(0)
    batch = {name: values[None] for name, values in batch.items()}
    with sharding.context(mesh):
        lowered = compile_steps(pieces, config, plan).lower(
            plan.abstract, batch, np.int32(1), programs.hparams(config)
        )
    program = program_lib.read(lowered.compile().as_text(), devices=mesh.size)
    # The first `stages` devices are one replica.
    between = [c for c in program.collectives if len({d < stages for d in c.group}) > 1]
    sent = sum(c.count * c.bytes for c in between)
    leaves = jax.tree.leaves(plan.abstract.params)
    gradient = sum(4 * math.prod(x.sharding.shard_shape(x.shape)) for x in leaves)
    assert gradient <= sent <= 1.01 * gradient  # beside it: sums of the loss and its like


@pytest.mark.slow
def test_several_steps_a_call_give_the_same_curve(tiny, one_device):
    losses, _ = curve(tiny({"train.steps_per_call": 4}))
    np.testing.assert_allclose(losses, one_device, rtol=1e-6)


def test_seed_and_learning_rate_share_one_compilation(tiny):
    """Values are traced: two runs that differ in them must not compile twice."""
    config = tiny()
    pieces = state_lib.parts(config)
    mesh = meshes.make_mesh(config.mesh, jax.devices()[:1])
    plan = state_lib.layout(pieces, config, mesh)
    stacked, whole = sharding.stacked_batch_sharding(mesh), sharding.replicated(mesh)
    batch = data.train_batches(config).batch(0)
    batch = place({k: v[None] for k, v in batch.items()}, sharding.replicated(mesh))
    with sharding.context(mesh):
        run = compile_steps(pieces, config, plan)
        for values in ({}, {"optim.peak_lr": 1.0, "seed": 3, "optim.b1": 0.5, "train.steps": 99}):
            state = state_lib.init(pieces, config, plan)
            run(
                state,
                jax.device_put(batch, stacked),
                place(np.int32(1), whole),
                place(programs.hparams(tiny(values)), whole),
            )
        assert run._cache_size() == 1


def test_the_initial_scale_is_of_matrices_and_embeddings(tiny):
    one, half = (tiny({"model.init_scale": scale}) for scale in (1.0, 0.5))
    params = []
    for config in (one, half):
        pieces = state_lib.parts(config)
        mesh = meshes.make_mesh(config.mesh, jax.devices()[:1])
        plan = state_lib.layout(pieces, config, mesh)
        params.append(jax.device_get(state_lib.init(pieces, config, plan).params))
    for path, leaf in jax.tree_util.tree_leaves_with_path(params[0]):
        other = functools.reduce(lambda tree, entry: tree[entry.key], path, params[1])
        scale = 1.0 if path[-1].key == "scale" else 0.5
        np.testing.assert_array_equal(other, leaf * scale)
        assert np.any(leaf)
