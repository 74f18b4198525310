"""Fingerprints: they see every bit, no mesh, and are the same of a run and its resumed twin."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from scaling.costs import counts
from scaling.devices import meshes
from scaling.records import RunDirectory
from scaling.train import fingerprints
from scaling.train import state as state_lib
from scaling.train.loop import train

HASH = jax.jit(fingerprints.of_array)
FIELDS = {"train.fingerprint_every": 4, "train.checkpoint_every": 4, "train.log_every": 3}


@pytest.fixture(scope="module")
def array():
    return np.random.default_rng(0).normal(size=(8, 4, 6)).astype(np.float32)


@pytest.mark.parametrize(
    "dtype", ["float32", "bfloat16", "float16", "int32", "int8", "bool", "uint32"]
)
def test_one_bit_of_one_element_changes_the_hash(array, dtype):
    x = np.asarray(jnp.asarray(array > 0 if dtype == "bool" else array * 9).astype(dtype))
    before = int(HASH(x))
    assert int(HASH(x.copy())) == before
    raw = np.frombuffer(x.tobytes(), np.uint8)
    for byte in (0, len(raw) // 2, len(raw) - 1):
        damaged = raw.copy()
        damaged[byte] ^= 1
        assert int(HASH(damaged.view(x.dtype).reshape(x.shape))) != before


def test_places_matter(array):
    turned = [array[::-1], array[:, ::-1], array[..., ::-1]]
    assert len({int(HASH(x.copy())) for x in [array, *turned]}) == 4
    assert int(HASH(np.zeros(3, np.float32))) != int(HASH(np.zeros(4, np.float32)))


def test_equal_values_have_equal_hashes_on_every_mesh(array):
    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    specs = [(), ("a",), (("a", "b"),), ("a", "b"), ("b", "a")]
    placed = [jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec))) for spec in specs]
    assert {int(HASH(x)) for x in placed} == {int(HASH(array))}


def test_mapped_over_runs_each_has_its_own(array):
    alone = [int(HASH(x)) for x in array]
    assert jax.vmap(fingerprints.of_array)(array).tolist() == alone


def test_totals_tell_the_tensors_of_a_group_apart():
    ours = {"params/a": 1, "params/b": 2, "batch/x": 3}
    totals = fingerprints.totals(ours)
    assert totals.keys() == {"hash/params", "hash/batch"}
    assert fingerprints.totals(dict(reversed(ours.items()))) == totals  # order is no matter
    swapped = fingerprints.totals({"params/a": 2, "params/b": 1, "batch/x": 3})
    assert swapped["hash/params"] != totals["hash/params"]
    assert swapped["hash/batch"] == totals["hash/batch"]


def test_the_state_of_a_run_is_the_same_sharded(tiny):
    """One device, and parameters cut over eight: the same initial state, so the same hashes."""
    found = []
    for mesh_fields, devices in (({}, 1), ({"mesh.fsdp": 4, "mesh.tensor": 2}, 8)):
        config = tiny({"optim.ema_decay": 0.9, **mesh_fields})
        pieces = state_lib.parts(config)
        mesh = meshes.make_mesh(config.mesh, jax.devices()[:devices])
        plan = state_lib.layout(pieces, config, mesh)
        state = state_lib.init(pieces, config, plan)
        trees = (state.params, state.opt_state, state.ema)
        hashes = jax.jit(lambda *trees: fingerprints.of_step(*trees, {}))(*trees)
        names = fingerprints.names(*trees, counts.batch_shapes(config))
        assert len(names) == len(hashes) + len(counts.batch_shapes(config))
        found.append(hashes.tolist())
    assert found[0] == found[1]


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    config, workdir = tiny(FIELDS), tmp_path_factory.mktemp("whole")
    train(config, workdir, devices=jax.devices()[:1], quiet=True)
    return config, RunDirectory.open(config, workdir)


def test_a_run_writes_hashes_at_their_steps(whole):
    _, run = whole
    hashes, lines = run.hashes(), [x for x in run.metrics() if x["split"] == "train"]
    assert list(hashes) == [4, 8, 12]
    assert [x["step"] for x in lines] == [3, 4, 6, 8, 9, 12]
    for line in lines:
        totals = {k: v for k, v in line.items() if k.startswith("hash/")}
        expected = fingerprints.totals(hashes[line["step"]]) if line["step"] % 4 == 0 else {}
        assert totals == expected  # exactly: integers of 32 bits do not fit a float32
    groups = {name.split("/")[0] for name in hashes[4]}
    assert groups == {"params", "optimizer", "batch"}
    for name in hashes[4]:
        moves = hashes[4][name] != hashes[8][name]
        assert moves or name in ("batch/loss_mask", "batch/positions"), name


def test_a_stopped_and_resumed_run_has_the_same_hashes(whole, tmp_path):
    config, run = whole
    stop = threading.Event()
    stop.set()
    outcome = train(config, tmp_path, devices=jax.devices()[:1], stop=stop, quiet=True)
    assert outcome.status == "stopped"
    twin = RunDirectory.open(config, tmp_path)
    # What a killed process wrote past its checkpoint is computed again.
    twin.append_hashes(outcome.step + 1, {"params/from the future": 1})
    train(config, tmp_path, devices=jax.devices()[:1], quiet=True)
    assert (twin.path / "fingerprints.jsonl").read_bytes() == (
        run.path / "fingerprints.jsonl"
    ).read_bytes()
    assert twin.hashes()[12]


@pytest.mark.slow
def test_several_steps_a_call_hash_the_same(whole, tiny, tmp_path):
    config = tiny({**FIELDS, "train.steps_per_call": 3})
    train(config, tmp_path, devices=jax.devices()[:1], quiet=True)
    ours, theirs = RunDirectory.open(config, tmp_path).hashes(), whole[1].hashes()
    assert ours.keys() == theirs.keys()
    batches = [name for name in ours[4] if name.startswith("batch/")]
    assert {n: ours[12][n] for n in batches} == {n: theirs[12][n] for n in batches}
