"""The mesh, the rules on a real model's state, and what the coverage check says of it."""

import dataclasses
import itertools
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec

from scaling import families, models, optim
from scaling.config import EvalsConfig, MeshConfig, OptimConfig, RunConfig, TrainConfig
from scaling.data.kinds.text import TextConfig
from scaling.devices import meshes, sharding
from scaling.errors import ConfigError
from scaling.families.transformer import TransformerConfig
from scaling.models.fields import MoEConfig
from scaling.objectives.next_token.cross_entropy import logits

MODEL = TransformerConfig(
    width=16, depth=2, heads=4, kv_heads=2, head_dim=4, mlp_width=32, vocab=257
)
MESHES = [
    MeshConfig(),
    MeshConfig(fsdp=8),
    MeshConfig(tensor=2),
    MeshConfig(fsdp=4, tensor=2),
    MeshConfig(data=2, fsdp=2, tensor=2),
    MeshConfig(replica=2, seq=2, expert=2),
]


def create(model: TransformerConfig, optimizer: str = "adamw") -> Any:
    """A boxed state: step, parameters, optimizer state."""
    batch = {name: jnp.zeros((1, 8), jnp.int32) for name in ("tokens", "positions", "segment_ids")}
    params = families.build(model).init(jax.random.key(0), batch)["params"]
    opt_state = optim.build(OptimConfig(name=optimizer)).init(params)  # type: ignore[arg-type]
    return {"step": jnp.zeros((), jnp.int32), "params": params, "opt_state": opt_state}


def plan(mesh: jax.sharding.Mesh, *args: Any) -> tuple[Any, Any]:
    """Boxed shapes and shardings."""
    with sharding.context(mesh):
        boxed = jax.eval_shape(lambda: create(*args))
    return boxed, sharding.state_shardings(boxed, mesh)


def specs(shardings: Any) -> dict[str, PartitionSpec]:
    leaves = jax.tree_util.tree_leaves_with_path(shardings)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): s.spec for p, s in leaves}


# ---- the mesh


@given(st.permutations([2, 2, 2, 1, 1, 1, 1, 1]))
def test_any_factorisation_of_the_devices_is_a_mesh(sizes: list[int]) -> None:
    mesh = meshes.make_mesh(MeshConfig(*sizes))
    assert mesh.axis_names == meshes.AXES
    assert mesh.shape == dict(zip(meshes.AXES, sizes, strict=True))
    assert set(mesh.devices.flat) == set(jax.devices())


@pytest.mark.parametrize(
    ("config", "data"), [(MeshConfig(), 8), (MeshConfig(fsdp=4, tensor=2), 1), (MESHES[2], 4)]
)
def test_data_takes_the_devices_that_are_left(config: MeshConfig, data: int) -> None:
    assert meshes.make_mesh(config).shape["data"] == data


def test_a_mesh_over_some_of_the_devices() -> None:
    devices = jax.devices()[2:4]
    mesh = meshes.make_mesh(MeshConfig(data=1, fsdp=2), devices)
    assert list(mesh.devices.flat) == devices


def test_a_mesh_that_does_not_fit_names_fields_and_numbers() -> None:
    with pytest.raises(ConfigError, match=r"mesh.fsdp=4 x mesh.tensor=3 needs .*12 .*not 8"):
        meshes.make_mesh(MeshConfig(fsdp=4, tensor=3))
    with pytest.raises(ConfigError, match=r"mesh.data=2 x mesh.fsdp=2 needs 4 devices, not 8"):
        meshes.make_mesh(MeshConfig(data=2, fsdp=2))
    with pytest.raises(ConfigError, match=r"a mesh of size 1 needs 1 devices, not 8"):
        meshes.make_mesh(MeshConfig(data=1))


@dataclasses.dataclass(frozen=True)
class Chip:
    """What a mesh asks of a TPU."""

    id: int
    coords: tuple[int, ...]
    device_kind: str
    platform: str = "tpu"
    core_on_chip: int = 0
    process_index: int = 0


def slice_of(kind: str, shape: tuple[int, int, int]) -> list[Chip]:
    """The chips of one slice, x first."""
    places = itertools.product(*map(range, reversed(shape)))
    return [Chip(i, place[::-1], kind) for i, place in enumerate(places)]


@pytest.mark.parametrize(
    ("kind", "shape", "config"),
    [
        ("TPU v6 lite", (4, 4, 1), MeshConfig(fsdp=8, tensor=2)),
        ("TPU v6 lite", (4, 4, 1), MeshConfig(data=2, trial=8)),
        ("TPU v6 lite", (16, 16, 1), MeshConfig(fsdp=2, tensor=128)),
        ("TPU v5 lite", (4, 4, 1), MeshConfig(fsdp=8, tensor=2)),
        ("TPU v5", (4, 4, 4), MeshConfig(fsdp=32, tensor=2)),
        ("TPU v5", (4, 4, 4), MeshConfig(fsdp=8, tensor=8)),
        ("TPU v4", (4, 4, 12), MeshConfig(fsdp=8, tensor=6, stage=4)),
    ],
)
def test_any_product_of_the_chips_is_a_mesh(
    kind: str, shape: tuple[int, int, int], config: MeshConfig
) -> None:
    devices = slice_of(kind, shape)
    mesh = meshes.make_mesh(config, devices)
    assert set(mesh.devices.flat) == set(devices)
    sizes = {axis: size or 1 for axis, size in vars(config).items()}
    assert mesh.shape == sizes


def test_neighbours_along_the_last_axis_are_neighbours_in_the_slice() -> None:
    mesh = meshes.make_mesh(MeshConfig(fsdp=8, tensor=2), slice_of("TPU v6 lite", (4, 4, 1)))
    places = np.array([chip.coords for chip in mesh.devices.flat]).reshape(8, 2, 3)
    assert (np.abs(places[:, 0] - places[:, 1]).sum(axis=-1) == 1).all()


def test_slices_that_do_not_match_the_replicas_name_both() -> None:
    def slices(*sizes: int) -> list[Any]:
        return [
            SimpleNamespace(platform="tpu", slice_index=i)
            for i, n in enumerate(sizes)
            for _ in range(n)
        ]

    with pytest.raises(ConfigError, match=r"mesh.replica=1 must be a multiple of the 2 slices"):
        meshes.make_mesh(MeshConfig(fsdp=8), slices(4, 4))
    with pytest.raises(ConfigError, match=r"2 slices of different sizes, \[2, 6\]"):
        meshes.make_mesh(MeshConfig(replica=2, fsdp=4), slices(2, 6))


def test_a_batch_that_does_not_divide_names_the_fields() -> None:
    mesh = meshes.make_mesh(MeshConfig(fsdp=4, seq=2))

    def check(batch_size: int = 8, microbatches: int = 1, evals: int = 8, seq_len: int = 8) -> None:
        train = TrainConfig(batch_size=batch_size, microbatches=microbatches)
        data, evals_config = TextConfig(seq_len=seq_len), EvalsConfig(batch_size=evals)
        meshes.check_batch(RunConfig(train=train, data=data, evals=evals_config), mesh)

    check()
    with pytest.raises(ConfigError, match=r"train.batch_size=6 .* 4 devices \(mesh fsdp=4\)"):
        check(batch_size=6)
    with pytest.raises(ConfigError, match=r"train.microbatches=4 pieces of 2 rows"):
        check(microbatches=4)
    with pytest.raises(ConfigError, match=r"evals.batch_size=2 "):
        check(evals=2)
    with pytest.raises(ConfigError, match=r"an example of 7 tokens .*mesh.seq=2"):
        check(seq_len=7)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depth": 6}, r"model.depth=6 .*mesh.stage=2 x model.pipeline_repeats=2"),
        ({"pipeline_microbatches": 1}, r"model.pipeline_microbatches=1 .*mesh.stage=2: "),
        ({"pipeline_microbatches": 3}, r"train.batch_size .* 8 rows .* 3 .* over 2 devices"),
        ({"pipeline_microbatches": 4, "evals": 4}, r"evals.batch_size = 4 rows .* 4 microbatches"),
    ],
)
def test_a_pipeline_that_does_not_divide_names_the_fields(
    fields: dict[str, int], message: str
) -> None:
    mesh = meshes.make_mesh(MeshConfig(data=2, stage=2), jax.devices()[:4])
    evals = EvalsConfig(batch_size=fields.pop("evals", 8))
    model = TransformerConfig(**{"depth": 4, "pipeline_repeats": 2} | fields)  # type: ignore
    train = TrainConfig(batch_size=8)
    with pytest.raises(ConfigError, match=message):
        meshes.check_batch(RunConfig(model=model, train=train, evals=evals), mesh)


@pytest.mark.parametrize("shape", [(8,), (16, 4), (8, 2, 3)])
def test_a_batch_of_any_rank_is_split_by_rows(shape: tuple[int, ...]) -> None:
    mesh = meshes.make_mesh(MeshConfig(replica=2, fsdp=2, tensor=2))
    x = jax.device_put(np.zeros(shape), sharding.batch_sharding(mesh))
    assert {s.data.shape for s in x.addressable_shards} == {(shape[0] // 4, *shape[1:])}


# ---- rules


def test_the_models_name_no_axis_without_a_rule() -> None:
    """Flax takes an activation axis that no rule names for a whole one, silently."""
    known = {name for name, _ in sharding.PARAMETER_RULES + sharding.ACTIVATION_RULES}
    rooms = [Path(room.__file__).parent for room in (models, families)]
    source = "".join(p.read_text() for room in rooms for p in room.rglob("*.py"))
    named = set(re.findall(r"\"(act_\w+|batch|seq)\"", source))
    assert len(named) >= 5
    assert named <= known
    constraints = re.findall(r"with_logical_constraint\(", source)
    assert len(constraints) >= 4


def test_a_parameter_axis_without_a_rule_is_refused() -> None:
    leaf = nn.LogicallyPartitioned(jax.ShapeDtypeStruct((4,), jnp.float32), ("flavour",))
    with pytest.raises(ValueError, match=r"params/w: no rule for the logical axis 'flavour'"):
        sharding.state_shardings({"params": {"w": leaf}}, meshes.make_mesh(MeshConfig()))


def test_fsdp_and_tensor_shard_the_axes_that_they_should() -> None:
    _, shardings = plan(meshes.make_mesh(MeshConfig(fsdp=4, tensor=2)), MODEL)
    s = specs(shardings)
    expected = {
        "embedding": PartitionSpec(None, "fsdp"),  # 257 tokens stay whole over tensor=2
        "blocks/attention/query/w": PartitionSpec(None, "fsdp", "tensor", None),
        "blocks/attention/key/w": PartitionSpec(None, "fsdp", "tensor", None),
        "blocks/attention/out/w": PartitionSpec(None, "tensor", None, "fsdp"),
        "blocks/mlp/up/w": PartitionSpec(None, "fsdp", "tensor"),
        "blocks/mlp/down/w": PartitionSpec(None, "tensor", "fsdp"),
        "blocks/mlp_norm/scale": PartitionSpec(None, None),
        "final_norm/scale": PartitionSpec(None),
    }
    for path, spec in expected.items():
        assert s[f"params/{path}"] == spec, path


def test_a_vocabulary_that_divides_is_sharded() -> None:
    model = dataclasses.replace(MODEL, vocab=258)
    for config, axes in (
        (MeshConfig(tensor=2), "tensor"),
        (MeshConfig(tensor=2, stage=2), "tensor"),  # not by 4
    ):
        _, shardings = plan(meshes.make_mesh(config), model)
        assert specs(shardings)["params/embedding"] == PartitionSpec(axes, None)


def test_experts_lie_along_expert_and_the_rest_is_split_over_it_too() -> None:
    model = dataclasses.replace(MODEL, moe=MoEConfig(experts=4, width=8))
    _, shardings = plan(meshes.make_mesh(MeshConfig(expert=2, fsdp=2, tensor=2)), model)
    s = specs(shardings)
    assert s["params/blocks/moe/up"] == PartitionSpec(None, "expert", "fsdp", "tensor")
    assert s["params/blocks/moe/down"] == PartitionSpec(None, "expert", "tensor", "fsdp")
    assert s["params/blocks/moe/router"] == PartitionSpec(None, ("fsdp", "expert"), None)
    assert s["params/blocks/attention/query/w"][1] == ("fsdp", "expert")


@pytest.mark.parametrize("optimizer", ["adamw", "lion", "sgd"])
def test_moments_lie_as_their_parameters_do(optimizer: str) -> None:
    _, shardings = plan(meshes.make_mesh(MeshConfig(fsdp=4, tensor=2)), MODEL, optimizer)
    params = specs(shardings["params"])
    moments = {k: v for k, v in specs(shardings["opt_state"]).items() if not k.endswith("count")}
    assert len(moments) == len(params) * (2 if optimizer == "adamw" else 1)
    for path, spec in moments.items():
        assert spec == next(v for k, v in params.items() if path.endswith(k)), path


@pytest.mark.parametrize("config", MESHES, ids=str)
@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_every_leaf_fits_and_takes_the_bytes_that_the_check_says(
    config: MeshConfig, optimizer: str
) -> None:
    mesh = meshes.make_mesh(config)
    boxed, shardings = plan(mesh, MODEL, optimizer)
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), sharding.unbox(boxed))
    state = jax.device_put(zeros, shardings)
    rows = sharding.check(boxed, shardings, mesh)
    for row, leaf in zip(rows, jax.tree.leaves(state), strict=True):
        assert {s.data.nbytes for s in leaf.addressable_shards} == {row.bytes_per_device}, row.path
        assert row.replicated == leaf.is_fully_replicated, row.path


def test_the_state_created_in_pieces_is_the_state_created_whole() -> None:
    mesh = meshes.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    _, shardings = plan(mesh, MODEL, "adafactor")

    def make() -> Any:
        return sharding.unbox(create(MODEL, "adafactor"))

    with sharding.context(mesh):
        state = jax.jit(make, out_shardings=shardings)()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), state, jax.jit(make)()
    )


def test_constraints_on_activations_hold_inside_the_context() -> None:
    mesh = meshes.make_mesh(MeshConfig(fsdp=4, tensor=2))

    def f(x: jax.Array) -> jax.Array:
        return nn.with_logical_constraint(x * 2, ("batch", "seq", "act_mlp"))

    with sharding.context(mesh):
        y = jax.jit(f)(jnp.ones((8, 4, 6)))
    assert y.addressable_shards[0].data.shape == (2, 4, 3)
    assert len(jax.jit(f)(jnp.ones((8, 4, 6))).sharding.device_set) == 1


def test_logits_of_a_vocabulary_that_does_not_divide_are_the_same() -> None:
    model = families.build(MODEL)
    names = ("tokens", "positions", "segment_ids")
    batch = {name: np.zeros((8, 8), np.int32) for name in names}
    rng = np.random.default_rng(0)
    shapes = sharding.unbox(jax.eval_shape(lambda: create(MODEL)))["params"]
    params = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(s.dtype) / 4, shapes)
    apply = jax.jit(lambda params, batch: logits(model.apply({"params": params}, batch)))
    expected = apply(params, batch)
    mesh = meshes.make_mesh(MeshConfig(fsdp=4, tensor=2))
    _, shardings = plan(mesh, MODEL)
    with sharding.context(mesh):
        placed = jax.device_put(params, shardings["params"])
        rows = jax.device_put(batch, sharding.batch_sharding(mesh))
        actual = apply(placed, rows)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


# ---- the check


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MeshConfig(tensor=4), r"blocks/attention/key/w: axis 2 \(kv_heads\) has size 2, "),
        (MeshConfig(tensor=8), r"mesh.tensor=8; change model.\w*heads or the mesh"),
    ],
)
def test_an_axis_that_does_not_divide_names_path_axis_and_field(
    config: MeshConfig, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(meshes.make_mesh(config), MODEL)


def large(axes: tuple[str, ...]) -> dict[str, Any]:
    shape = jax.ShapeDtypeStruct((1024, 512), jnp.float32)
    return {"params": {"w": nn.LogicallyPartitioned(shape, axes)}}


@pytest.mark.parametrize(
    ("config", "axes", "flagged"),
    [
        (MeshConfig(fsdp=8), ("vocab", "head_dim"), True),
        (MeshConfig(tensor=8), ("embed", "head_dim"), True),
        (MeshConfig(tensor=8), ("embed", "mlp"), False),
        (MeshConfig(fsdp=8), ("embed", "mlp"), False),
        (MeshConfig(data=8), ("vocab", "head_dim"), False),  # data parallel means replicas
    ],
)
def test_a_large_parameter_that_no_rule_shards_is_flagged(
    config: MeshConfig, axes: tuple[str, ...], flagged: bool
) -> None:
    mesh, state = meshes.make_mesh(config), large(axes)
    rows = sharding.check(state, sharding.state_shardings(state, mesh), mesh)
    assert (rows[0].warning is not None) == flagged
    text = sharding.table(rows)
    assert ("WARNING: params/w (2 MiB, 100% of the state) lies whole" in text) == flagged


def test_a_large_leaf_without_logical_axes_is_flagged() -> None:
    mesh = meshes.make_mesh(MeshConfig(fsdp=8))
    state = {"table": jax.ShapeDtypeStruct((1024, 512), jnp.float32)}
    (row,) = sharding.check(state, sharding.state_shardings(state, mesh), mesh)
    assert row.replicated
    assert row.warning is not None


def test_the_table_lists_every_leaf_and_adds_up() -> None:
    mesh = meshes.make_mesh(MeshConfig(fsdp=4, tensor=2))
    boxed, shardings = plan(mesh, MODEL)
    rows = sharding.check(boxed, shardings, mesh)
    text = sharding.table(rows)
    for row in rows:
        assert row.path in text
    assert len(rows) == len(jax.tree.leaves(shardings))
    whole = sum(math.prod(r.shape) * 4 for r in rows)
    assert sum(r.bytes_per_device for r in rows) < whole / 4
    assert max(map(len, text.splitlines())) <= 140
