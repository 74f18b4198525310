"""The loss of chunks is the loss of all logits at once, on one device and on a mesh; and its memory
does not hold them.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from scaling.config import MeshConfig
from scaling.devices import meshes, sharding
from scaling.objectives.next_token.cross_entropy import cross_entropy, logits, pieces

ROWS, LENGTH, WIDTH, VOCAB = 8, 32, 16, 1000
KEYS = jax.random.split(jax.random.key(0), 5)
HIDDEN = 2 * jax.random.normal(KEYS[0], (ROWS, LENGTH, WIDTH))
HEAD = jax.random.normal(KEYS[1], (VOCAB, WIDTH))
TARGETS = jax.random.randint(KEYS[2], (ROWS, LENGTH), 0, VOCAB)
WEIGHTS = jax.random.normal(KEYS[3], (2, ROWS, LENGTH))
CLOSE = {"rtol": 1e-5, "atol": 1e-4}  # float32 sums of 1000 terms of size 1 to 10, reordered


def gradient_of(chunk, softcap):
    """(hidden, head, targets) -> ((any loss of log Z and target, the scores), gradients)."""

    def loss(hidden, head, targets):
        scores = cross_entropy(hidden, head, targets, softcap, chunk)
        return (WEIGHTS[0] * scores.log_z + WEIGHTS[1] * scores.target).sum(), scores

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)


@functools.cache
def whole(softcap):
    """All logits at once, differentiated by jax."""
    return jax.jit(gradient_of(None, softcap))(HIDDEN, HEAD, TARGETS)


def assert_close(actual, wanted):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), actual, wanted)


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_chunks_are_all_the_logits_at_once(softcap):
    assert pieces(ROWS, LENGTH, VOCAB, 24) == 16
    actual = jax.jit(gradient_of(24, softcap))(HIDDEN, HEAD, TARGETS)
    assert_close(actual, whole(softcap))


def test_the_scores_are_those_of_the_logits():
    scores = whole(5.0)[0][1]
    all_BxLxV = np.asarray(logits({"hidden": HIDDEN, "head": HEAD, "softcap": 5.0}), np.float64)
    np.testing.assert_allclose(scores.log_z, np.log(np.exp(all_BxLxV).sum(axis=-1)), rtol=1e-5)
    picked = np.take_along_axis(all_BxLxV, np.asarray(TARGETS)[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(scores.target, picked, rtol=1e-5)
    np.testing.assert_array_equal(scores.correct, all_BxLxV.argmax(axis=-1) == TARGETS)


def test_a_tie_counts_as_correct_in_chunks_too():
    for chunk in (None, 8):
        scores = cross_entropy(jnp.zeros_like(HIDDEN), HEAD, TARGETS, chunk=chunk)
        assert scores.correct.all()


@pytest.mark.parametrize("chunk", [None, 24])
def test_in_bfloat16_the_gradient_of_the_head_is_summed_in_float32(chunk):
    """Products of 8 bits, but 256 tokens are added up with 24: of ones, none is lost."""
    hidden = jnp.ones((ROWS, LENGTH, WIDTH), jnp.bfloat16)
    head, targets = jnp.zeros((4, WIDTH)), jnp.zeros((ROWS, LENGTH), jnp.int32)

    def loss(head):
        return cross_entropy(hidden, head, targets, chunk=chunk).target.sum()

    gradient = jax.jit(jax.grad(loss))(head + 1e-3)
    assert gradient.dtype == jnp.float32
    np.testing.assert_array_equal(gradient[0], ROWS * LENGTH)


@pytest.mark.parametrize(
    ("rows", "length", "vocab", "chunk", "wanted"),
    [
        (16, 256, 257, None, 1),  # bytes: one piece
        (32, 2048, 257, None, 1),
        (8, 2048, 50257, None, 8),  # 2,670 tokens have 2^27 logits, and 2,048 divide the length
        (8, 2048, 128_000, None, 16),  # at 1,048 tokens
        (8, 2048, 1_000_000, None, 16),  # never fewer than 1,024
        (8, 2048, 257, 100, 256),
        (8, 30, 257, 100, 3),
        (8, 2048, 257, 4, 2048),  # a piece is a column at least
    ],
)
def test_pieces_by_vocabulary_or_by_hand(rows, length, vocab, chunk, wanted):
    assert pieces(rows, length, vocab, chunk) == wanted


MESHES = [{"fsdp": 8}, {"tensor": 2, "seq": 4}, {"fsdp": 2, "tensor": 2, "seq": 2}]


@pytest.mark.parametrize("axes", MESHES, ids=str)
def test_a_mesh_gives_the_same_and_moves_no_logits(axes):
    mesh = meshes.make_mesh(MeshConfig(**axes))
    hidden = NamedSharding(mesh, PartitionSpec(meshes.BATCH_AXES, "seq"))
    head = NamedSharding(mesh, PartitionSpec("tensor", "fsdp"))
    places = (hidden, head, sharding.batch_sharding(mesh))
    with sharding.context(mesh):
        function = jax.jit(
            gradient_of(8, 5.0), in_shardings=places, out_shardings=(None, (hidden, head))
        )
        program = function.lower(HIDDEN, HEAD, TARGETS).compile()
        assert_close(program(*jax.device_put((HIDDEN, HEAD, TARGETS), places)), whole(5.0))
    of_head = f"[{VOCAB // mesh.shape['tensor']},{WIDTH}]"
    moved = re.findall(r" = (.*?) (?:all-|reduce-scatter|collective-)(.*)", program.as_text())
    assert moved
    for shapes, rest in moved:
        # One token's logits are 500 or 1000; the head's gradient is summed once, after the loop.
        assert f",{VOCAB}]" not in shapes
        assert f",{VOCAB // 2}]" not in shapes
        assert not ("while/body" in rest and of_head in shapes)


# ---- memory


def compiled(vocab, chunk, tokens=2048):
    shapes = [
        jax.ShapeDtypeStruct(shape, dtype)
        for shape, dtype in (
            ((4, tokens // 4, WIDTH), jnp.float32),
            ((vocab, WIDTH), jnp.float32),
            ((4, tokens // 4), jnp.int32),
        )
    ]

    def loss(hidden, head, targets):
        scores = cross_entropy(hidden, head, targets, 30.0, chunk)
        return (scores.log_z - scores.target).sum()

    return jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*shapes).compile()


def test_memory_grows_with_the_vocabulary_by_the_heads_matrices_and_one_chunk():
    """1k to 128k tokens of vocabulary: the compiler's temporary bytes, and no buffer of the
    logits of all 2,048 tokens.
    """
    chunk, tokens = 16, 2048
    vocabularies = [2**10, 2**12, 2**14, 2**17]
    programs = [compiled(vocab, chunk, tokens) for vocab in vocabularies]
    temps = [p.memory_analysis().temp_size_in_bytes for p in programs]
    per_token = np.diff(temps) / np.diff(vocabularies)  # bytes for one more token of vocabulary
    matrices = 4 * 4 * WIDTH  # weights and gradient, each at most twice (a loop's carry and copy)
    logits_of_chunk = 4 * 4 * chunk  # they and their gradient, and what a loop fusion keeps
    assert (per_token <= matrices + logits_of_chunk).all(), per_token
    assert (per_token < 4 * tokens / 8).all()
    for vocab, program in zip(vocabularies, programs, strict=True):
        sizes = [
            np.prod([int(n) for n in shape.split(",")])
            for shape in re.findall(r"f32\[([\d,]+)\]", program.as_text())
        ]
        assert max(sizes) <= max(tokens * WIDTH, vocab * WIDTH, vocab * chunk)


def test_all_at_once_the_logits_are_there():
    """The contrary, so that the test above could fail."""
    assert compiled(2**12, 2048).memory_analysis().temp_size_in_bytes >= 4 * 2048 * 2**12
