"""The pipeline gives what its blocks give one after the other; its schedule is the one stated."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.config import MeshConfig
from scaling.devices import meshes, sharding
from scaling.families.transformer import TransformerConfig
from scaling.models.pipeline import run_pipeline

ROWS, LENGTH, WIDTH = 8, 2, 4


def block(weights_DxD, x_BxLxD, context):
    """A block that knows its rows: a context that went with other rows would change the result."""
    y_BxLxD = jnp.tanh(x_BxLxD @ weights_DxD + context["shift"])
    return x_BxLxD + y_BxLxD, {"size": jnp.square(y_BxLxD).mean(axis=(1, 2))}


def one_by_one(weights_P, x_BxLxD, context):
    x_BxLxD, sizes_P = jax.lax.scan(
        lambda x_BxLxD, weights: block(weights, x_BxLxD, context), x_BxLxD, weights_P
    )
    return x_BxLxD, jax.tree.map(lambda size: size.sum(axis=0), sizes_P)


def weighted(run, weights, x_BxLxD, shift):
    """A number to differentiate that depends on every row's stream and penalty in its own way."""
    y_BxLxD, penalties = run(weights, x_BxLxD, {"shift": shift})
    row_B = jnp.arange(1.0, ROWS + 1)
    return (row_B * (y_BxLxD.sum(axis=(1, 2)) + penalties["size"])).sum(), (y_BxLxD, penalties)


def arrays(depth):
    draw = np.random.default_rng(0).normal
    shapes = (depth, WIDTH, WIDTH), (ROWS, LENGTH, WIDTH), (ROWS, 1, 1)
    return [draw(size=shape).astype(np.float32) / 2 for shape in shapes]


def compiled(config, stages):
    """The pipeline of `block` and its gradients on stages x 2 devices, and its arguments."""
    mesh = meshes.make_mesh(MeshConfig(data=2, stage=stages), jax.devices()[: 2 * stages])
    rows, by_stage = sharding.batch_sharding(mesh), jax.NamedSharding(mesh, jax.P("stage"))
    run = functools.partial(run_pipeline, config, one_by_one)
    with sharding.context(mesh):
        step = jax.jit(
            jax.value_and_grad(functools.partial(weighted, run), argnums=(0, 1, 2), has_aux=True),
            in_shardings=(by_stage, rows, rows),
            out_shardings=(None, (by_stage, rows, rows)),
        )
        return step.lower(*arrays(config.depth)).compile()


slow = pytest.mark.slow


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("stages", "depth", "microbatches", "repeats", "remat"),
    [
        (4, 8, 4, 1, "full"),
        (2, 4, 4, 2, "dots"),  # a microbatch waits for its next visit
        (4, 8, 4, 2, "none"),  # it comes round just in time
        pytest.param(4, 12, 4, 3, "none", marks=slow),
        pytest.param(2, 2, None, 1, "none", marks=slow),
        pytest.param(4, 4, 2, 1, "none", marks=slow),  # fewer microbatches than stages
        pytest.param(2, 8, 2, 2, "full", marks=slow),
    ],
)
def test_the_pipeline_is_its_blocks_one_after_the_other(
    stages, depth, microbatches, repeats, remat
):
    config = TransformerConfig(
        depth=depth, pipeline_microbatches=microbatches, pipeline_repeats=repeats, remat=remat
    )
    inputs, plain = arrays(depth), functools.partial(weighted, one_by_one)
    expected = jax.value_and_grad(plain, argnums=(0, 1, 2), has_aux=True)(*inputs)
    program = compiled(config, stages)
    leaves = zip(jax.tree.leaves(program(*inputs)), jax.tree.leaves(expected), strict=True)
    for ours, theirs in leaves:
        # Against the size of the whole leaf: an element may be a small difference of large terms.
        assert np.linalg.norm(ours - theirs) <= 1e-6 * np.linalg.norm(theirs)
    # Rows, and circular weights, go from stage to stage; no stage ever has them all. (Three repeats
    # of four stages: the partitioner cannot express that move.)
    moves = re.findall(r"(all-\w+|collective-permute)(?:-start)?\(", program.as_text())
    assert "collective-permute" in moves
    assert ("all-to-all" in moves) <= (repeats > 1)
    assert ("all-gather" in moves) == (repeats == 3)
