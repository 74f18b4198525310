"""The estimate of a step's memory against the compiler's plan, and over a mesh."""

import dataclasses

import jax
import pytest

from scaling.check import compiled, memory, target
from scaling.config import RunConfig, override
from scaling.costs import sizes
from scaling.devices import meshes
from tests.test_costs import run

# Width, depth, length, batch, vocabulary, remat, scan and dtype all differ.
SHAPES = {
    "unrolled": {"model.scan_layers": False},
    "scanned, longer": {"data.seq_len": 512, "train.batch_size": 2},
    "large vocabulary": {
        **{"model.vocab": 8192, "model.scan_layers": False, "model.depth": 3},
        **{"model.width": 128, "train.batch_size": 4},
    },
    "remat": {"model.remat": "full", "model.depth": 6, "model.width": 128},
    "remat, unrolled": {"model.remat": "full", "model.depth": 4, "model.scan_layers": False},
    "bfloat16": {"model.dtype": "bfloat16", "model.width": 128, "model.heads": 8},
    "remat of all but matmuls": {"model.remat": "dots", "model.mlp": "plain"},
}


def base(**fields) -> RunConfig:
    config = run(256, width=64, depth=2, heads=4)
    config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, warmup_steps=0))
    config = override(config, {"train.batch_size": 8})
    for name, value in fields.items():
        config = override(config, {name: value})
    return resized(config)


def resized(config: RunConfig) -> RunConfig:
    """With what follows from the width."""
    width, heads = config.model.width, config.model.heads
    hidden = -(-8 * width // 48) * 16
    return override(config, {"model.head_dim": width // heads, "model.mlp_width": hidden})


# Parameters in parts, of which a device gathers what it works on.
SPREAD = {
    "unrolled, fsdp 8": {"model.scan_layers": False, "mesh.fsdp": 8},
    "scanned, fsdp 4": {"data.seq_len": 512, "mesh.fsdp": 4},
}


@pytest.mark.slow
@pytest.mark.parametrize("fields", (SHAPES | SPREAD).values(), ids=SHAPES | SPREAD)
def test_the_estimate_is_within_10_percent_of_the_compilers_plan(fields):
    config = base(**fields)
    here = target.of_devices(jax.devices()[: config.mesh.fsdp])
    mesh = meshes.make_mesh(config.mesh, here.devices)
    planned = compiled.compile(compiled.lower(config, mesh, here), here).memory
    found = memory.estimate_bytes(config, config.mesh.fsdp, platform="cpu")
    assert found.total - found.temporaries == pytest.approx(planned.arguments, rel=0.01)
    assert found.total == pytest.approx(planned.total, rel=0.1)


def test_the_state_is_exact():
    found = memory.estimate_bytes(base())
    assert found.params == 4 * sizes.size(base()).params
    assert 2 * found.params <= found.optimizer < 2 * found.params + 100  # and some counters
    lion = override(base(), {"optim.name": "lion", "optim.ema_decay": 0.9})
    assert memory.estimate_bytes(lion).optimizer == pytest.approx(2 * found.params, rel=1e-3)
    away = override(base(), {"optim.offload": True})
    assert memory.estimate_bytes(away).optimizer < 100


def test_memory_is_spread_over_the_mesh():
    config = override(base(), {"model.vocab": 256})
    whole = memory.estimate_bytes(config)
    data = memory.estimate_bytes(config, devices=4)
    assert data.params == whole.params
    assert data.batch == whole.batch / 4
    assert 0.25 < data.temporaries / whole.temporaries < 0.35  # gradients are whole
    fsdp = memory.estimate_bytes(override(config, {"mesh.fsdp": 4}), devices=4)
    assert fsdp.params == pytest.approx(whole.params / 4, rel=0.02)  # norms are whole
    assert 0.25 < fsdp.temporaries / whole.temporaries < 0.3  # a block is gathered whole


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["tensor", "seq", "stage"])
def test_every_axis_saves(axis):
    """With stages too, once there are microbatches enough to fill the pipeline."""
    fields = {"model.vocab": 256, "model.depth": 8, "model.pipeline_microbatches": 8}
    config = override(base(), fields)
    whole = memory.estimate_bytes(config)
    split = memory.estimate_bytes(override(config, {f"mesh.{axis}": 2}), devices=2)
    assert split.temporaries < 0.8 * whole.temporaries


@pytest.mark.slow
def test_microbatches_and_remat_need_less():
    config = base()
    whole = memory.estimate_bytes(config).temporaries
    assert (
        memory.estimate_bytes(override(config, {"train.microbatches": 4})).temporaries < whole / 2
    )
    kept = [
        memory.estimate_bytes(override(config, {"model.remat": r, "model.depth": 12})).temporaries
        for r in ("none", "dots", "full")
    ]
    assert kept[0] > 1.2 * kept[1] > 1.2**2 * kept[2]
