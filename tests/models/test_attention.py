"""Every form of attention is its definition, on one device and on several, and none keeps scores of
the whole length.
"""

import functools
import importlib.util
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from scaling.config import MeshConfig
from scaling.costs.ledger import ledger
from scaling.devices import meshes, sharding
from scaling.errors import ConfigError
from scaling.models import attention as forms
from scaling.models import kernels
from scaling.models.attention import CPU_BLOCK, SHORT, attention, query_blocks
from scaling.models.flash import Keys, blocks, pairs, ring_hops
from scaling.models.layers import constrain
from scaling.models.placement import Placement, placement

HEADS, CHANNELS = 4, 8
ONE_DEVICE = Placement(None, None, None, 1)


def arrays(length: int, kv_heads: int = 2, documents: bool = True, batch: int = 2) -> Any:
    """Queries, keys, values and segments."""
    keys = jax.random.split(jax.random.key(0), 4)
    q = jax.random.normal(keys[0], (batch, HEADS, length, CHANNELS)) * 2
    k, v = (jax.random.normal(key, (batch, kv_heads, length, CHANNELS)) * 2 for key in keys[1:3])
    begins = jax.random.bernoulli(keys[3], 0.05, (batch, length))
    return q, k, v, jnp.cumsum(begins, axis=1, dtype=jnp.int32) if documents else None


def by_definition(q: Any, k: Any, v: Any, segments: Any, window: int | None) -> Any:
    """softmax(q k / sqrt(K)) v over all pairs of slots at once."""
    shared = q.shape[1] // k.shape[1]
    k, v = k.repeat(shared, axis=1), v.repeat(shared, axis=1)
    slots = jnp.arange(q.shape[2])
    distance = slots[:, None] - slots[None, :]
    seen = (distance >= 0) & (distance < (window or q.shape[2]))
    seen = seen[None] & jnp.ones((q.shape[0], 1, 1), bool)
    if segments is not None:
        seen &= segments[:, :, None] == segments[:, None, :]
    scores = jnp.einsum("bhlk,bhsk->bhls", q, k) / jnp.sqrt(1.0 * q.shape[3])
    weights = jax.nn.softmax(jnp.where(seen[:, None], scores, -jnp.inf), axis=-1)
    return jnp.einsum("bhls,bhsk->bhlk", weights, v)


def test_both_ways_every_query_sees_its_segment():
    q, k, v, segments = arrays(12)
    found = attention(q, k, v, segments, causal=False)
    for row in range(len(q)):
        for number in np.unique(segments[row]):
            own = np.flatnonzero(segments[row] == number)
            part = (x[row : row + 1, :, own] for x in (q, k, v))
            alone = attention(*part, None, causal=False)
            np.testing.assert_allclose(found[row : row + 1, :, own], alone, rtol=1e-5, atol=1e-5)


def values_and_gradients(function: Any, q: Any, k: Any, v: Any, segments: Any) -> Any:
    """What `function` gives, and the gradient of a sum that weighs every value otherwise."""

    def total(q: Any, k: Any, v: Any) -> Any:
        out = function(q, k, v, segments)
        return (out * jnp.cos(jnp.arange(out.size).reshape(out.shape))).sum(), out

    (_, out), gradients = jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))(q, k, v)
    return out, gradients


def assert_agree(actual: Any, wanted: Any) -> None:
    """To 1e-5 of the largest: they are sums of up to 100 float32 terms of that size."""
    for a, w in zip(jax.tree.leaves(actual), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, w, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(w).max()))


@functools.cache
def wanted(length: int, kv_heads: int, documents: bool, window: int | None) -> Any:
    given = arrays(length, kv_heads, documents)
    return values_and_gradients(lambda *a: by_definition(*a, window), *given)


def short(*args: Any) -> Any:
    q, *rest = args
    return forms.short(forms.scaled(q), *rest)


def long(q: Any, k: Any, v: Any, segments: Any, keys: Keys, place: Placement = ONE_DEVICE) -> Any:
    return forms.long(forms.scaled(q), k, v, segments, keys, place)


CASES = [  # kv_heads, documents, window
    (4, False, None),
    (2, True, None),
    (1, True, 7),
    (2, False, 1),
    (2, True, 50),
]


@pytest.mark.parametrize(("kv_heads", "documents", "window"), CASES)
def test_blocks_are_the_definition(kv_heads, documents, window):
    """130 slots: two static blocks; or nine scanned ones of 15, the last of them beyond the end."""
    length, block = 130, 16
    assert query_blocks(length) == 2
    assert blocks(length, block) == (9, 15)
    given, right = arrays(length, kv_heads, documents), wanted(length, kv_heads, documents, window)
    assert_agree(values_and_gradients(lambda *a: short(*a, window), *given), right)
    scanned = values_and_gradients(lambda *a: long(*a, Keys(window, block)), *given)
    assert_agree(scanned, right)


@pytest.mark.parametrize(
    ("kv_heads", "documents", "window", "seq"),
    [
        (2, True, 100, 1),
        pytest.param(2, True, None, 2, marks=pytest.mark.slow),
        pytest.param(1, False, 100, 2, marks=pytest.mark.slow),
    ],
)
def test_splash_is_the_definition(kv_heads, documents, window, seq):
    """The TPU's kernel, interpreted."""
    given, right = arrays(256, kv_heads, documents), wanted(256, kv_heads, documents, window)
    mesh = meshes.make_mesh(MeshConfig(data=1, seq=seq), jax.devices()[:seq])
    with sharding.context(mesh):
        place = placement(*given[:2])
        assert place.shards == seq

        def splash(q: Any, *rest: Any) -> Any:
            return forms.splash(forms.scaled(q), *rest, window, place, interpret=True)

        assert_agree(values_and_gradients(splash, *given), right)


MESHES = [MeshConfig(seq=8), MeshConfig(data=2, seq=2, tensor=2), MeshConfig(fsdp=2, seq=4)]


@pytest.mark.parametrize("ring", [False, True])
@pytest.mark.parametrize("mesh", MESHES, ids=str)
@pytest.mark.parametrize(
    ("documents", "window"), [(True, None), pytest.param(False, 20, marks=pytest.mark.slow)]
)
def test_keys_of_other_devices_count_as_ones_own(mesh, ring, documents, window):
    given, right = arrays(64, 2, documents), wanted(64, 2, documents, window)
    with sharding.context(meshes.make_mesh(mesh)):
        place = placement(*given[:2])
        assert (place.shards, place.heads) == (mesh.seq, "tensor")

        def cut(*a: Any) -> Any:
            return long(*a, Keys(window, 8, place.seq, place.shards, ring), place)

        assert_agree(values_and_gradients(cut, *given), right)


@pytest.mark.parametrize(
    ("window", "hops"), [(None, 7), (1, 0), (2, 1), (9, 1), (10, 2), (57, 7), (500, 7)]
)
def test_keys_travel_no_further_than_they_are_seen(window, hops):
    assert ring_hops(8, Keys(window, shards=8, ring=True)) == hops


def test_large_scores_do_not_overflow():
    q = jnp.full((1, 1, 4, 2), 1e10)
    value = jnp.arange(8.0).reshape(1, 1, 4, 2)
    for form in (
        lambda q: short(q, q, value, None, None),
        lambda q: long(q, q, value, None, Keys()),
    ):
        out, gradient = jax.jit(jax.value_and_grad(lambda q, form=form: form(q).sum()))(q)
        assert jnp.isfinite(out)
        assert jnp.isfinite(gradient).all()


# ---- what it costs


def keys_per_query(length: int, window: int | None = None) -> float:
    """How many keys the blockwise form on a CPU lets a query meet, averaged over the length: those
    it sees, and those it shares a block with.
    """
    if length > SHORT:
        size = blocks(length, CPU_BLOCK)[1]
        return len(pairs(length, length, 0, Keys(window, CPU_BLOCK))) * size**2 / length
    size = length // query_blocks(length)
    ends = range(size, length + size, size)
    return sum(min(end, size + (window or length) - 1) for end in ends) * size / length


@pytest.mark.parametrize("length", [1, 63, 64, 100, 128, 192, 256, 1024, 2048, 2050, 2053])
def test_blocks_cover_the_length_and_are_not_small(length):
    count = query_blocks(length)
    assert length % count == 0
    assert count == 1 or length // count >= 64
    count, size = blocks(length, 128)
    assert 0 <= count * size - length < count
    assert length / 2 < keys_per_query(length) < length + count


@pytest.mark.parametrize("length", [64, 256, 1024, 1030])
@pytest.mark.parametrize("window", [None, 1, 100, 5000])
def test_keys_per_query_is_what_the_program_multiplies(length, window):
    given = arrays(length)
    matmul = ledger(lambda *a: attention(*a, window), *given).matmul
    assert matmul == 4 * given[0].size * keys_per_query(length, window)
    if window == 100:
        assert keys_per_query(length, window) < window + 2 * 128


@pytest.mark.slow
def test_memory_grows_linearly_and_no_array_has_all_pairs():
    """Of the gradient, as compiled: nothing runs."""
    planned = {}
    for length in (1024, 2048, 4096, 8192, 16384, 32768):
        q, k, v, segments = jax.eval_shape(lambda length=length: arrays(length, batch=1))

        def total(q: Any, k: Any, v: Any, segments: Any) -> Any:
            return attention(q, k, v, segments).sum()

        compiled = jax.jit(jax.grad(total, (0, 1, 2))).lower(q, k, v, segments).compile()
        planned[length] = compiled.memory_analysis().temp_size_in_bytes
        sizes = [
            np.prod([int(n) for n in shape.split(",")], dtype=np.int64)
            for shape in re.findall(r"\[(\d+(?:,\d+)+)\]", compiled.as_text())
        ]
        assert max(sizes) < length**2
    for length in (1024, 2048, 4096, 8192, 16384):
        assert planned[2 * length] < 2.05 * planned[length]


# ---- which form


def test_the_platform_of_the_program_decides():
    """A program for a TPU, traced where there is none, has the kernel in it."""
    device = AbstractDevice("TPU v5 lite", 1, "tpu")
    mesh = AbstractMesh((1,), ("data",), (AxisType.Auto,), abstract_device=device)

    def kernels_in(length: int, **how: Any) -> int:
        return str(jax.make_jaxpr(functools.partial(attention, **how))(*arrays(length))).count(
            "pallas_call"
        )

    assert kernels_in(128) == 0
    with jax.sharding.use_abstract_mesh(mesh):
        assert kernels_in(128) > 0
        assert kernels_in(128, form="splash", window=5) > 0
        assert kernels_in(100) == 0
        assert kernels_in(128, form="blockwise") == 0


FITS = {"cudnn": "", "splash": ""}


@pytest.mark.parametrize(
    ("platform", "cannot", "ring", "chosen"),
    [
        ("cpu", FITS, False, "blockwise"),
        ("gpu", FITS, False, "cudnn"),
        ("tpu", FITS, False, "splash"),
        ("tpu", FITS, True, "blockwise"),
        ("gpu", FITS | {"cudnn": "it is too wide"}, False, "blockwise"),
        ("tpu", FITS | {"splash": "it is too short"}, False, "blockwise"),
    ],
)
def test_auto_takes_the_platforms_kernel_where_it_can(platform, cannot, ring, chosen):
    assert forms.choose("auto", platform, cannot, ring) == chosen
    assert forms.choose("blockwise", platform, cannot, ring) == "blockwise"


@pytest.mark.parametrize(
    ("form", "platform", "length", "ring", "message"),
    [
        ("splash", "cpu", 128, False, "model.attention=splash .*needs a TPU, .* for a cpu"),
        ("cudnn", "tpu", 128, False, "model.attention=cudnn .*needs a GPU, .* for a tpu"),
        ("splash", "tpu", 100, False, "data.seq_len=100 must be a multiple of 128"),
        ("splash", "tpu", 128, True, "set model.context_parallel=gather"),
        ("cudnn", "gpu", 128, False, "has no float32, set model.dtype=bfloat16"),
    ],
)
def test_a_kernel_that_cannot_run_is_refused(form, platform, length, ring, message):
    cannot = {
        "splash": kernels.splash_cannot(length, 1),
        "cudnn": kernels.cudnn_cannot(jnp.float32, 64, length, True, 1),
    }
    with pytest.raises(ConfigError, match=message):
        forms.choose(form, platform, cannot, ring)


@pytest.mark.parametrize(
    ("head_dim", "length", "documents", "shards", "message"),
    [
        (64, 2048, True, 1, "^$"),
        (128, 65536, False, 1, "^$"),
        (100, 2048, True, 1, "model.head_dim=100"),
        (256, 2048, True, 1, "model.head_dim=256"),
        (64, 2048, True, 2, "mesh.seq=2"),
        (64, 65536, True, 1, "data.seq_len=65536"),
    ],
)
def test_cudnn_says_what_it_cannot_do(head_dim, length, documents, shards, message):
    why = kernels.cudnn_cannot(jnp.bfloat16, head_dim, length, documents, shards)
    assert re.search(message, why)


@pytest.mark.skipif(
    not any(map(importlib.util.find_spec, ("jax_cuda12_plugin", "jax_cuda13_plugin"))),
    reason="jax[cuda], and with it cuDNN, is not installed",
)
@pytest.mark.parametrize("documents", [True, False])
def test_a_program_for_a_gpu_calls_cudnn(documents):
    """Lowered, which needs the library but no GPU."""
    given = jax.tree.map(
        lambda x: x.astype(jnp.bfloat16) if x.ndim == 4 else x, arrays(128, documents=documents)
    )

    def total(q: Any, *rest: Any) -> Any:
        return kernels.cudnn(q, *rest, window=50).astype(jnp.float32).sum()

    traced = jax.jit(jax.grad(total, (0, 1, 2))).trace(*given)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    for name in ("Softmax", "SoftmaxBackward"):
        assert f"__cudnn$fmha{'ScaleBias' if documents else ''}{name}(" in text


# ---- between the blocks


@pytest.mark.parametrize(
    ("mesh", "length", "wanted"),
    [
        (MeshConfig(seq=2, tensor=2), 16, ("seq", "tensor")),
        (MeshConfig(tensor=4), 16, ("seq", "tensor")),
        (MeshConfig(seq=2, tensor=2), 6, "seq"),
        (MeshConfig(tensor=4), 5, "seq"),
    ],
)
def test_the_stream_lies_along_the_length_over_tensor_where_that_divides(mesh, length, wanted):
    with sharding.context(meshes.make_mesh(mesh)):
        x = jax.jit(constrain)(jnp.zeros((8, length, 4)))
        expected = jax.sharding.PartitionSpec(meshes.BATCH_AXES, wanted)
        place = jax.sharding.NamedSharding(x.sharding.mesh, expected)
    assert x.sharding.is_equivalent_to(place, x.ndim)


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize(("window", "causal"), [(None, True), (5, True), (None, False)])
def test_the_weights_of_the_values_are_the_attention(documents, window, causal):
    q, k, v, segments = arrays(12, documents=documents)
    found = forms.weights(q, k, segments, window, causal)
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-5)
    made = jnp.einsum("bhls,bhsk->bhlk", found, v.repeat(HEADS // v.shape[1], axis=1))
    wanted = attention(q, k, v, segments, window, causal=causal)
    np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-5)
