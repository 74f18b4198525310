"""Every TPU flag of `train.xla_flags` is one that the real TPU compiler knows."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scaling.devices import xla_flags

pytestmark = pytest.mark.tpu


@pytest.fixture(scope="module")
def lowered():
    """A sharded matmul and a sum for four chips."""
    from jax.experimental import topologies

    patch = pytest.MonkeyPatch()
    patch.setenv("TPU_SKIP_MDS_QUERY", "1")
    patch.setenv("TPU_WORKER_HOSTNAMES", "localhost")
    try:
        devices = topologies.get_topology_desc("v5e:2x2", platform="tpu").devices
    finally:
        patch.undo()
    rows = NamedSharding(Mesh(devices, ("data",)), PartitionSpec("data"))
    matrix = jax.ShapeDtypeStruct((512, 512), jnp.bfloat16, sharding=rows)
    return jax.jit(lambda a, b: (a @ b).sum()).lower(matrix, matrix)


@pytest.mark.parametrize("preset", ["overlap", "sparse_core"])
def test_the_compiler_knows_the_flags(lowered, preset):
    options = xla_flags.options(preset, "tpu")
    assert options
    lowered.compile(compiler_options=options)
    for name, value in options.items():
        lowered.compile(compiler_options={name: value})


def test_the_compiler_refuses_what_it_does_not_know(lowered):
    with pytest.raises(Exception, match="No such compile option"):
        lowered.compile(compiler_options={"xla_tpu_of_tomorrow": True})
