"""Collectives and memory traffic, of programs whose shardings say what they must be."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from scaling.check import hlo, roofline
from scaling.check import program as program_lib
from scaling.check.target import of_devices
from scaling.config import MeshConfig
from scaling.devices import meshes

ROWS, WIDTH, FFN = 16, 32, 64
P = PartitionSpec


def collectives(mesh: jax.sharding.Mesh, function, *arrays, out=None) -> list[roofline.Traffic]:
    """Of a function of (shape, spec) arrays, compiled on the mesh."""
    program = read(mesh, function, *arrays, out=out)
    return roofline.traffic(program.collectives, mesh, of_devices())


def read(mesh: jax.sharding.Mesh, function, *arrays, out=None) -> program_lib.Program:
    avals = [
        jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))
        for shape, spec in arrays
    ]
    shardings = None if out is None else NamedSharding(mesh, out)
    with jax.set_mesh(mesh):
        compiled = jax.jit(function, out_shardings=shardings).lower(*avals).compile()
    return program_lib.read(compiled.as_text(), mesh.size)


def loss(w, x):
    return jnp.sum((x @ w) ** 2)


def test_data_parallel_reduces_the_gradient_over_data():
    mesh = meshes.make_mesh(MeshConfig(data=4, fsdp=2))
    arrays = (((WIDTH, FFN), P()), ((ROWS, WIDTH), P("data")))
    (row,) = collectives(mesh, jax.grad(loss), *arrays, out=P())
    assert (row.kind, row.axes, row.devices, row.count) == ("all-reduce", ("data",), 4, 1)
    assert row.bytes == 4 * WIDTH * FFN


def test_fsdp_gathers_the_parameters_over_fsdp():
    mesh = meshes.make_mesh(MeshConfig(data=2, fsdp=4))
    arrays = (((WIDTH, FFN), P("fsdp")), ((ROWS, WIDTH), P(("data", "fsdp"))))
    (row,) = collectives(
        mesh,
        lambda w, x: x @ jax.lax.with_sharding_constraint(w, P()),
        *arrays,
        out=P(("data", "fsdp")),
    )
    assert (row.kind, row.axes, row.devices, row.count) == ("all-gather", ("fsdp",), 4, 1)
    assert row.bytes == 4 * WIDTH * FFN  # of the whole array, which each device then has


def test_tensor_parallel_reduces_the_output_over_tensor():
    mesh = meshes.make_mesh(MeshConfig(data=2, tensor=4))
    arrays = (
        ((WIDTH, FFN), P(None, "tensor")),
        ((FFN, WIDTH), P("tensor")),
        ((ROWS, WIDTH), P("data")),
    )
    (row,) = collectives(mesh, lambda a, b, x: jnp.tanh(x @ a) @ b, *arrays, out=P("data"))
    assert (row.kind, row.axes, row.devices) == ("all-reduce", ("tensor",), 4)
    assert row.bytes == 4 * ROWS // 2 * WIDTH


def test_a_ring_permutes_over_seq_once_a_turn_of_its_loop():
    mesh = meshes.make_mesh(MeshConfig(data=2, seq=4))
    turns = 3

    def ring(x):
        def turn(carry, _):
            neighbours = [(i, (i + 1) % 4) for i in range(4)]
            return jnp.sin(jax.lax.ppermute(carry, "seq", neighbours)), None

        return jax.lax.scan(turn, x, length=turns)[0]

    ringed = jax.shard_map(ring, mesh=mesh, in_specs=P("seq"), out_specs=P("seq"))
    (row,) = collectives(mesh, ringed, ((ROWS, WIDTH), P("seq")), out=P("seq"))
    assert (row.kind, row.axes, row.devices) == ("collective-permute", ("seq",), 4)
    assert row.count == turns
    assert row.bytes == turns * 4 * ROWS // 4 * WIDTH


def test_collectives_over_two_axes_name_both():
    mesh = meshes.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    arrays = (((WIDTH, FFN), P()), ((ROWS, WIDTH), P(("data", "fsdp"))))
    (row,) = collectives(mesh, jax.grad(loss), *arrays, out=P())
    assert (row.axes, row.devices) == (("data", "fsdp"), 4)


# ---- groups of devices, in every form that the compiler writes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{0,1},{2,3}}", [(0, 1), (2, 3)]),
        ("[2,4]<=[8]", [(0, 1, 2, 3), (4, 5, 6, 7)]),
        ("[2,4]<=[4,2]T(1,0)", [(0, 2, 4, 6), (1, 3, 5, 7)]),
        ("mesh['a'=4,'b'=2] {'b'}", [(0, 1), (2, 3), (4, 5), (6, 7)]),
        ("mesh['a'=4,'b'=2] {'a'}", [(0, 2, 4, 6), (1, 3, 5, 7)]),
        ("mesh['a'=4,'b'=2] {'a','b'}", [(0, 1, 2, 3, 4, 5, 6, 7)]),
        # Parts of an axis of 8: its first 2 are 4 apart, its last 2 are neighbours.
        ("mesh['a'=8] {'a':(1)2}", [(0, 4), (1, 5), (2, 6), (3, 7)]),
        ("mesh['a'=8] {'a':(2)2}", [(0, 2), (1, 3), (4, 6), (5, 7)]),
        ("mesh['a'=8] {'a':(4)2}", [(0, 1), (2, 3), (4, 5), (6, 7)]),
        ("mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'b'}", [(0, 2), (1, 3)]),
        ("mesh['a'=2,'b'=2], device_ids=(3,1,0,2) {'a'}", [(3, 0), (1, 2)]),
        ("{}", [tuple(range(8))]),
    ],
)
def test_groups(text, expected):
    attributes = f", channel_id=1, replica_groups={text}, dimensions={{0}}"
    assert sorted(hlo.groups(attributes, 8)) == sorted(expected)


# ---- forms that only a TPU program has

TPU = """HloModule step

%piece.1 (p: bf16[4,8]) -> bf16[32,8] {
  %p = bf16[4,8]{1,0} parameter(0)
  ROOT %g1 = bf16[32,8]{1,0} all-gather(%p), channel_id=7, replica_groups=[1,8]<=[8], dimensions={0}
}

%piece.2 (q: bf16[4,8]) -> bf16[32,8] {
  %q = bf16[4,8]{1,0} parameter(0)
  ROOT %g2 = bf16[32,8]{1,0} all-gather(%q), channel_id=7, replica_groups=[1,8]<=[8], dimensions={0}
}

%all-reduce-scatter (s: f32[32,8]) -> f32[4,8] {
  %s = f32[32,8]{1,0} parameter(0)
  %sum = f32[32,8]{1,0} all-reduce(%s), channel_id=8, replica_groups=[1,8]<=[8]
  %place = s32[] constant(0)
  ROOT %share = f32[4,8]{1,0} dynamic-slice(%sum, %place, %place), dynamic_slice_sizes={4,8}
}

%body (t: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %t = (s32[], bf16[4,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %x = bf16[4,8]{1,0} get-tuple-element(%t), index=1
  %beside = bf16[32,8]{1,0} fusion(%x), kind=kCustom, calls=%piece.2
  %r = bf16[4,8]{1,0} all-reduce(%x), channel_id=9, replica_groups={{0,1},{2,3},{4,5},{6,7}}
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  ROOT %out = (s32[], bf16[4,8]{1,0}) tuple(%next, %r)
}

%condition (t: (s32[], bf16[4,8])) -> pred[] {
  %t = (s32[], bf16[4,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %n = s32[] constant(5)
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (a: bf16[4,8]) -> bf16[4,8] {
  %a = bf16[4,8]{1,0} parameter(0)
  %start = bf16[32,8]{1,0} fusion(%a), kind=kCustom, calls=%piece.1
  %grads = f32[32,8]{1,0} convert(%start)
  %shares = f32[4,8]{1,0} fusion(%grads), kind=kCustom, calls=%all-reduce-scatter
  %zero = s32[] constant(2)
  %init = (s32[], bf16[4,8]{1,0}) tuple(%zero, %a)
  %loop = (s32[], bf16[4,8]{1,0}) while(%init), condition=%condition, body=%body
  %after = token[] after-all()
  %sent = (bf16[4,8]{1,0}, u32[], token[]) send(%a, %after), channel_id=2, is_host_transfer=true, \
frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}
  ROOT %end = bf16[4,8]{1,0} get-tuple-element(%loop), index=1
}
"""


@functools.cache
def tpu_program() -> dict[str, program_lib.Collective]:
    program = program_lib.read(TPU, devices=16, slices=2)
    assert program.open_loops == 0
    found = {(c.kind, len(c.group), c.group[-1]): c for c in program.collectives}
    assert len(found) == len(program.collectives) == 4
    return {f"{kind} to {last}": c for (kind, _, last), c in found.items()}


def test_a_collective_in_pieces_that_a_loop_only_hides_runs_once():
    gather = tpu_program()["all-gather to 7"]
    assert gather.count == 1
    assert gather.bytes == 2 * 32 * 8


def test_an_all_reduce_of_which_a_slice_is_taken_is_a_reduce_scatter():
    scatter = tpu_program()["reduce-scatter to 7"]
    assert scatter.count == 1
    assert scatter.bytes == 4 * 32 * 8  # before it is scattered


def test_a_loop_runs_from_its_start_to_the_limit_of_its_condition():
    assert tpu_program()["all-reduce to 1"].count == 5 - 2


def test_what_the_hosts_send_is_a_collective_between_the_slices():
    across = tpu_program()["all-reduce to 8"]
    assert across.group == (0, 8)
    assert across.bytes == 2 * 4 * 8


# ---- memory traffic


def test_an_elementwise_program_reads_its_operands_and_writes_its_result():
    mesh = meshes.make_mesh(MeshConfig())
    program = read(mesh, lambda x, y: x * y + x, *[((64, 64), P())] * 2, out=P())
    assert program.memory_traffic == 3 * 4 * 64 * 64


@pytest.mark.parametrize("depth", [4, 16])
def test_a_scan_reads_each_layer_once(depth):
    mesh = meshes.make_mesh(MeshConfig())

    def scan(layers, x):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, layers)[0]

    program = read(mesh, scan, ((depth, 128, 128), P()), ((8, 128), P()), out=P())
    # The layers are read where they are used, perhaps copied first; never all of them every time.
    layers = depth * 4 * 128 * 128
    assert layers < program.memory_traffic < 5 * layers


def test_values_that_live_on_the_chip_are_no_traffic():
    shape = "(f32[8,4]{1,0:T(8,128)S(1)}, bf16[16]{0:T(256)(128)(2,1)}, u32[]{:S(2)})"
    assert hlo.array_bytes(shape) == 4 * 32 + 2 * 16 + 4
    assert hlo.array_bytes(shape, main_memory=True) == 2 * 16
