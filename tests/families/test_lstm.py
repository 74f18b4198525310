"""The LSTM family: its recurrence against other forms of the same, its documents, its size."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.config.contracts import Facts
from scaling.costs.ledger import ledger
from scaling.errors import ConfigError
from scaling.families.lstm import FAMILY, LSTMConfig
from scaling.families.lstm.network import Network
from scaling.models.recurrence import recurrence
from scaling.objectives.next_token.cross_entropy import cross_entropy

VOCAB = 11
SMALL = LSTMConfig(width=8, depth=2, vocab=VOCAB)
# The same sums in another order.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def config(**fields: Any) -> LSTMConfig:
    return dataclasses.replace(SMALL, **fields)


@functools.cache
def boxed(config: LSTMConfig) -> Any:
    batch = {"tokens": jnp.zeros((1, 4), jnp.int32)}
    return jax.jit(Network(config).init)(jax.random.key(0), batch)["params"]


def params_of(config: LSTMConfig) -> Any:
    return nn.unbox(boxed(config))


def tokens_of(rows: int = 2, length: int = 12) -> jax.Array:
    return jax.random.randint(jax.random.key(1), (rows, length), 0, VOCAB)


def loss(config: LSTMConfig, params: Any, batch: dict[str, jax.Array]) -> jax.Array:
    out = Network(config).apply({"params": params}, batch)
    scores = cross_entropy(out["hidden"], out["head"], batch["tokens"])
    return (scores.log_z - scores.target).mean()


def close_trees(one: Any, other: Any, **tolerance: float) -> None:
    jax.tree.map(functools.partial(np.testing.assert_allclose, **(tolerance or CLOSE)), one, other)


# ---- the recurrence


def arrays(length: int = 7, batch: int = 3, width: int = 5) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(length, batch, 4, width)).astype(np.float32)
    w = (rng.normal(size=(width, 4, width)) / 2).astype(np.float32)
    keep = rng.random((length, batch)) < 0.7
    return z, w, keep


def by_loop(z: Any, w: Any, keep: Any) -> np.ndarray:
    """Gate by gate, row by row, in float64."""
    length, batch, _, width = z.shape
    z, w = z.astype(np.float64), w.astype(np.float64)
    out = np.zeros((length, batch, width))
    for row in range(batch):
        h, c = np.zeros(width), np.zeros(width)
        for t in range(length):
            if not keep[t, row]:
                h, c = np.zeros(width), np.zeros(width)
            i, f, g, o = (z[t, row, gate] + h @ w[:, gate] for gate in range(4))
            c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
            h = np.tanh(c) / (1 + np.exp(-o))
            out[t, row] = h
    return out


@pytest.mark.parametrize("unroll", [1, 2, 16])
def test_the_recurrence_is_a_plain_loop(unroll: int) -> None:
    z, w, keep = arrays()
    np.testing.assert_allclose(recurrence(z, w, keep, unroll), by_loop(z, w, keep), **CLOSE)


def test_the_derivative_by_hand_is_that_of_differences() -> None:
    z, w, keep = arrays()
    weight = np.random.default_rng(1).normal(size=(*z.shape[:2], z.shape[3]))
    of_z, of_w = jax.grad(lambda z, w: (recurrence(z, w, keep) * weight).sum(), (0, 1))(z, w)
    rng = np.random.default_rng(2)
    for array, of, at in ((z, of_z, 0), (w, of_w, 1)):
        for _ in range(3):
            direction = rng.normal(size=array.shape)
            step = 1e-5 * direction
            ends = []
            for sign in (1, -1):
                given = [z.astype(np.float64), w.astype(np.float64)]
                given[at] = given[at] + sign * step
                ends.append((by_loop(*given, keep) * weight).sum())
            # float32 sums of some hundred terms of about 1
            np.testing.assert_allclose(
                (np.asarray(of) * direction).sum(), (ends[0] - ends[1]) / 2e-5, rtol=1e-4, atol=1e-4
            )


def test_a_layer_is_flax_cell_over_the_sequence() -> None:
    """`OptimizedLSTMCell` with the same weights; it has its biases at the state's matrices."""
    one = config(depth=1)
    layer = jax.tree.map(lambda p: p[0], params_of(one)["layers"]["lstm"])
    x = jax.random.normal(jax.random.key(3), (2, 6, 8))
    cell: dict[str, Any] = {}
    for gate, name in enumerate("ifgo"):
        cell[f"i{name}"] = {"kernel": layer["input"]["w"][:, gate]}
        cell[f"h{name}"] = {"kernel": layer["state"][:, gate], "bias": layer["bias"][gate]}
    expected = nn.RNN(nn.OptimizedLSTMCell(8)).apply({"params": {"cell": cell}}, x)
    z = jnp.einsum("BLD,DGH->LBGH", x, layer["input"]["w"]) + layer["bias"][None, None]
    actual = recurrence(z, layer["state"], jnp.ones((6, 2), bool))
    np.testing.assert_allclose(actual.swapaxes(0, 1), expected, **CLOSE)


# ---- the network


@pytest.mark.slow
def test_every_form_computes_the_same() -> None:
    """Scanned, unrolled, computed again: the same parameters, hidden states and gradients."""
    batch = {"tokens": tokens_of(), "segment_ids": jnp.asarray([[1] * 5 + [2] * 7, [1] * 12])}
    params = params_of(SMALL)
    expected = jax.jit(jax.value_and_grad(functools.partial(loss, SMALL)))(params, batch)
    for fields in (
        {"scan_layers": False},
        {"remat": "full"},
        {"scan_layers": False, "remat": "full", "unroll": 5},
    ):
        other = config(**fields)
        close_trees(params_of(other), params)
        form = jax.jit(jax.value_and_grad(functools.partial(loss, other)))
        close_trees(form(params, batch), expected)


def by_place(batch: dict[str, jax.Array]) -> np.ndarray:
    """[L, L]: how far the hidden state at a place (rows) moves with the embedding at one (columns).

    The embedding is that of the place's own token: in the batch's one row no token occurs twice.
    """
    params = params_of(SMALL)

    def hidden(table: jax.Array) -> jax.Array:
        out = Network(SMALL).apply({"params": params | {"embedding": table}}, batch)
        return out["hidden"][0]

    jacobian = jax.jit(jax.jacrev(hidden))(params["embedding"])  # [L, D, V, D]
    return np.abs(jacobian).sum(axis=(1, 3))[:, batch["tokens"][0]]


def test_nothing_is_seen_but_the_past_of_the_document() -> None:
    tokens = jnp.arange(8)[None]
    later = np.triu(np.ones((8, 8), bool), 1)
    one = by_place({"tokens": tokens})
    assert (one[later] == 0).all()
    assert (one[~later] > 0).all()
    segments = np.asarray([1, 1, 1, 2, 2, 3, 3, 3])
    several = by_place({"tokens": tokens, "segment_ids": jnp.asarray(segments)[None]})
    other = segments[:, None] != segments[None, :]
    assert (several[later | other] == 0).all()
    assert (several[~(later | other)] > 0).all()


def test_a_document_is_the_same_alone_and_behind_another() -> None:
    tokens = tokens_of(1, 9)
    segments = jnp.asarray([[1] * 4 + [2] * 5])
    params = params_of(SMALL)
    both = Network(SMALL).apply({"params": params}, {"tokens": tokens, "segment_ids": segments})
    alone = Network(SMALL).apply({"params": params}, {"tokens": tokens[:, 4:]})
    np.testing.assert_allclose(both["hidden"][:, 4:], alone["hidden"], **CLOSE)


@pytest.mark.exhaustive
def test_bfloat16_is_near_float32_and_keeps_float32_parameters() -> None:
    low, params, batch = config(dtype="bfloat16"), params_of(SMALL), {"tokens": tokens_of()}
    close_trees(params_of(low), params)
    assert {p.dtype for p in jax.tree.leaves(params_of(low))} == {jnp.dtype("float32")}
    expected = Network(SMALL).apply({"params": params}, batch)["hidden"]
    actual = Network(low).apply({"params": params}, batch)["hidden"]
    assert actual.dtype == jnp.bfloat16
    # Eight bits of mantissa; values of about 1.
    np.testing.assert_allclose(actual.astype(jnp.float32), expected, atol=0.05)
    of = [jax.grad(functools.partial(loss, c))(params, batch) for c in (SMALL, low)]
    flat = [np.concatenate([g.ravel() for g in jax.tree.leaves(tree)]) for tree in of]
    assert np.linalg.norm(flat[0] - flat[1]) < 0.05 * np.linalg.norm(flat[0])


# ---- its start, its size, its record


def test_a_layer_starts_with_an_open_forget_gate_and_keeps_variance() -> None:
    wide = config(width=128, depth=3, vocab=64, forget_bias=2.0)
    layer = params_of(wide)["layers"]["lstm"]
    assert (layer["bias"][:, 1] == 2).all()
    assert (layer["bias"][:, jnp.asarray([0, 2, 3])] == 0).all()
    for matrix in (layer["input"]["w"], layer["state"]):
        # 3 x 128 x 512 numbers: their standard deviation is known to 0.2 %
        np.testing.assert_allclose(jnp.std(matrix, axis=(1, 2, 3)) * 128**0.5, 1, rtol=0.01)
    assert not np.allclose(layer["state"][0], layer["state"][1])


def test_every_parameter_has_logical_axes() -> None:
    leaves = jax.tree.leaves(boxed(SMALL), is_leaf=lambda p: isinstance(p, nn.LogicallyPartitioned))
    for leaf in leaves:
        assert isinstance(leaf, nn.LogicallyPartitioned)
        assert len(leaf.names) == leaf.value.ndim
    assert boxed(SMALL)["layers"]["lstm"]["state"].names == ("layers", "embed", "gates", "mlp")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("depth", [1, 3])
def test_the_closed_size_is_what_the_program_counts(tied: bool, depth: int) -> None:
    one = config(depth=depth, tie_embeddings=tied)
    counts = FAMILY.size(one, None)
    params = params_of(one)
    assert counts.params == sum(p.size for p in jax.tree.leaves(params))
    tables = ("embedding",) if tied else ("embedding", "head")
    assert counts.params_non_embedding == counts.params - sum(params[t].size for t in tables)
    batch = {"tokens": tokens_of(3, 10)}
    counted = ledger(jax.value_and_grad(functools.partial(loss, one)), params, batch)
    assert counted.matmul == counts.flops_per_unit * 30


def test_the_vocabulary_is_the_tokenizers() -> None:
    facts = Facts("", 1, 1, {"vocab": VOCAB})
    assert FAMILY.resolve(config(vocab=None), facts) == SMALL
    assert FAMILY.resolve(SMALL, facts) == SMALL
    with pytest.raises(ConfigError, match=r"model\.vocab=12, but the tokenizer has 11"):
        FAMILY.resolve(config(vocab=12), facts)
