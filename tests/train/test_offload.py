"""Moments in host memory: the same curve, and they lie where they should."""

import jax
import numpy as np
import pytest
from curves import curve

from scaling.devices import meshes, sharding
from scaling.devices.meshes import HOST
from scaling.errors import ConfigError
from scaling.train import state as state_lib
from scaling.train.checkpoint import Checkpoints

OFFLOAD = {"optim.offload": True}


@pytest.mark.slow
def test_the_curve_is_the_same(tiny):
    """On a mesh, and where a loop of several steps carries the moments."""
    mesh = {"mesh.fsdp": 4, "mesh.tensor": 2}
    fields = OFFLOAD | mesh | {"train.steps_per_call": 2}
    np.testing.assert_allclose(curve(tiny(fields), devices=8)[0], curve(tiny())[0], rtol=1e-5)


def layout(config):
    mesh = meshes.make_mesh(config.mesh)
    return state_lib.layout(state_lib.parts(config), config, mesh)


def test_moments_lie_in_host_memory_and_the_table_says_so(tiny):
    plan = layout(tiny(OFFLOAD | {"mesh.fsdp": 8}))
    rows = sharding.check(plan.boxed, plan.shardings, plan.mesh)
    for row in rows:
        moment = row.path.startswith("opt_state") and row.shape != ()
        assert row.host == moment, row.path
    text = sharding.table(rows)
    moved = sum(row.bytes_per_device for row in rows if row.host)
    kept = sum(row.bytes_per_device for row in rows if not row.host)
    assert 1.9 < moved / kept < 2  # two moments for each parameter
    assert "in host memory: " in text
    assert "fsdp (host)" in text


@pytest.mark.slow
def test_a_checkpoint_moves_between_the_two(tiny, tmp_path):
    there, here = tiny(OFFLOAD), tiny()
    state = state_lib.init(state_lib.parts(there), there, layout(there))
    with Checkpoints(tmp_path, there) as checkpoints:
        checkpoints.save(1, state)
    for config in (there, here):
        with Checkpoints(tmp_path, config) as checkpoints:
            restored = checkpoints.restore(layout(config).abstract)
        kinds = {x.sharding.memory_kind for x in jax.tree.leaves(restored.opt_state) if x.ndim}
        assert kinds == {HOST if config is there else "device"}
        jax.tree.map(np.testing.assert_array_equal, restored.params, state.params)


class Bare:
    """A device without named memories, as some platforms have them."""

    device_kind = "abacus"

    def addressable_memories(self):
        return []


def test_a_platform_without_host_memory_is_named():
    mesh = type("Mesh", (), {"devices": np.array([Bare()])})
    with pytest.raises(ConfigError, match=r"optim.offload=True needs .* abacus has none"):
        meshes.check_host_memory(mesh, "optim.offload=True")
