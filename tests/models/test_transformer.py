"""What a decoder must do whatever its weights: two programs compared, or a derivative that is 0."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_transformer import LENGTH, VOCAB, batch_of, init, logits_of, small, tokens_of

from scaling import families
from scaling.objectives import objective as objective_lib
from scaling.objectives.next_token import NextTokenConfig, cross_entropy

# Sums of a few hundred float32 terms of size 1, taken in another order.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
BASE = small()


def with_targets(tokens: jax.Array) -> dict[str, jax.Array]:
    ones = jnp.ones(tokens.shape)
    targets = jnp.roll(tokens, -1, axis=1)
    return batch_of(tokens) | {"targets": targets, "loss_mask": ones, "target_bytes": ones}


@functools.cache
def loss_and_gradient_of(config):
    objective, model = objective_lib.build(NextTokenConfig()), families.build(config)

    def loss(params, batch):
        return objective.loss(model, params, batch, jax.random.key(0))[0] / (2 * LENGTH)

    return jax.jit(jax.value_and_grad(loss))


def loss_and_gradient(config, params):
    return loss_and_gradient_of(config)(params, with_targets(tokens_of(1)))


def assert_trees_close(actual, wanted, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), actual, wanted)


@pytest.mark.parametrize("window", [None, 30])
def test_causality_by_gradient(window):
    """d logits[t] / d embedding of the token at t' is exactly 0 for t' > t, and for t' out of reach
    of as many windows as there are blocks; and not 0 otherwise.
    """
    config = small(tie_embeddings=False, window=window)
    params, model = init(config), families.build(config)
    tokens = tokens_of(1, rows=1)  # each token once: its row of the table is its position's input

    def logits_L(table):
        outputs = model.apply({"params": params | {"embedding": table}}, batch_of(tokens))
        return cross_entropy.logits(outputs).sum(axis=(0, 2))

    jacobian_LxVxD = jax.jit(jax.jacrev(logits_L))(params["embedding"])
    influence_LxL = np.abs(np.asarray(jacobian_LxVxD))[:, np.asarray(tokens[0])].sum(axis=2)
    reach = LENGTH if window is None else config.depth * (window - 1) + 1
    distance = np.arange(LENGTH)[:, None] - np.arange(LENGTH)[None, :]
    np.testing.assert_array_equal(influence_LxL > 0, (distance >= 0) & (distance < reach))


def test_another_documents_tokens_change_nothing():
    segments = jnp.where(jnp.arange(LENGTH) < 50, 1, 2)[None].repeat(2, axis=0)
    logits, params = logits_of(BASE), init(BASE)
    tokens = tokens_of(1)
    before = logits(params, batch_of(tokens, segments))
    for changed in (slice(0, 50), slice(50, None)):
        other = tokens.at[:, changed].set(tokens_of(2)[:, changed])
        after = logits(params, batch_of(other, segments))
        kept = slice(50, None) if changed.start == 0 else slice(0, 50)
        np.testing.assert_array_equal(after[:, kept], before[:, kept])
        assert not np.allclose(after[:, changed], before[:, changed])


def test_without_segments_a_row_is_one_document():
    batch = batch_of(tokens_of(1))
    wanted = logits_of(BASE)(init(BASE), batch)
    del batch["segment_ids"]
    np.testing.assert_array_equal(logits_of(BASE)(init(BASE), batch), wanted)


def test_packed_documents_are_as_each_alone():
    params, tokens = init(BASE), tokens_of(1)
    segments = jnp.where(jnp.arange(LENGTH) < 48, 1, 2)[None].repeat(2, axis=0)
    packed = logits_of(BASE)(params, batch_of(tokens, segments))
    for document in (slice(0, 48), slice(48, None)):
        alone = logits_of(BASE)(params, batch_of(tokens[:, document]))
        np.testing.assert_allclose(packed[:, document], alone, **CLOSE)


def test_only_distances_between_positions_count():
    params, batch = init(BASE), batch_of(tokens_of(1))
    shifted = batch | {"positions": batch["positions"] + 1000}
    stretched = batch | {"positions": batch["positions"] * 2}
    logits = logits_of(BASE)
    wanted = logits(params, batch)
    # Angles of 1000 are rounded to 6e-5 in float32.
    np.testing.assert_allclose(logits(params, shifted), wanted, rtol=1e-3, atol=1e-3)
    assert np.abs(logits(params, stretched) - wanted).max() > 0.01


def test_grouped_queries_are_full_attention_with_shared_keys():
    params = init(BASE)
    block = params["blocks"]["attention"]
    repeated = {name: {"w": block[name]["w"].repeat(2, axis=2)} for name in ("key", "value")}
    full = params | {"blocks": params["blocks"] | {"attention": block | repeated}}
    batch = batch_of(tokens_of(1))
    wanted = logits_of(small(kv_heads=4))(full, batch)
    np.testing.assert_allclose(logits_of(BASE)(params, batch), wanted, **CLOSE)


def test_scanned_is_unrolled():
    params = init(BASE)
    loss, gradient = loss_and_gradient(BASE, params)
    unrolled = loss_and_gradient(dataclasses.replace(BASE, scan_layers=False), params)
    np.testing.assert_allclose(unrolled[0], loss, rtol=1e-6)
    assert_trees_close(unrolled[1], gradient, **CLOSE)


@pytest.mark.parametrize("scan_layers", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "remat",
    [
        "full",
        *(pytest.param(of, marks=pytest.mark.slow) for of in ("dots", "attention", "offload")),
    ],
)
def test_remat_changes_nothing(remat, scan_layers):
    plain = dataclasses.replace(BASE, scan_layers=scan_layers)
    params = init(BASE)
    loss, gradient = loss_and_gradient(plain, params)
    again = loss_and_gradient(dataclasses.replace(plain, remat=remat), params)
    np.testing.assert_allclose(again[0], loss, rtol=1e-6)
    assert_trees_close(again[1], gradient, **CLOSE)


def test_bfloat16_is_near_float32():
    params, batch = init(BASE), batch_of(tokens_of(1))
    wanted = logits_of(BASE)(params, batch)
    actual = logits_of(dataclasses.replace(BASE, dtype="bfloat16"))(params, batch)
    assert actual.dtype == jnp.float32
    # bfloat16 keeps 8 bits: 0.4 % an operation, a few dozen of them one after the other.
    assert jnp.sqrt(jnp.mean((actual - wanted) ** 2)) < 0.03 * wanted.std()


def test_softcap_bounds_logits_and_keeps_small_ones():
    params, batch = init(BASE), batch_of(tokens_of(1))
    plain = logits_of(BASE)(params, batch)
    capped = logits_of(dataclasses.replace(BASE, logit_softcap=0.5))(params, batch)
    assert np.abs(plain).max() > 1
    assert np.abs(capped).max() < 0.5
    np.testing.assert_allclose(capped, 0.5 * np.tanh(plain / 0.5), **CLOSE)


@pytest.mark.parametrize("tie_embeddings", [True, False])
@pytest.mark.parametrize("depth", [2, 8])
def test_the_first_loss_is_near_that_of_a_uniform_guess(tie_embeddings, depth):
    config = small(width=64, depth=depth, tie_embeddings=tie_embeddings)
    batch = with_targets(tokens_of(1))
    logits = logits_of(config)(init(config), batch)
    loss = -jnp.take_along_axis(jax.nn.log_softmax(logits), batch["targets"][..., None], -1).mean()
    assert np.log(VOCAB) < loss < np.log(VOCAB) + 1


def test_the_residual_stream_starts_alike_at_every_depth():
    """The blocks' output projections are smaller in deeper models, as 1 / sqrt(2 depth)."""
    stds = {}
    for depth in (2, 8):
        blocks = init(small(width=64, depth=depth))["blocks"]
        stds[depth] = {
            "out": float(blocks["attention"]["out"]["w"].std()),
            "down": float(blocks["mlp"]["down"]["w"].std()),
        }
    fan_in = {"out": 64, "down": small(width=64).mlp_width}
    for depth, by_name in stds.items():
        for name, std in by_name.items():
            wanted = 1 / np.sqrt(fan_in[name] * 2 * depth)
            assert abs(std / wanted - 1) < 0.03  # 8,000 weights and more: 1 % standard error


def test_every_axis_of_every_parameter_has_a_name():
    config = small(tie_embeddings=False)
    batch = batch_of(jnp.zeros((1, 8), jnp.int32))
    boxed = jax.eval_shape(families.build(config).init, jax.random.key(0), batch)["params"]
    is_box = lambda leaf: isinstance(leaf, nn.LogicallyPartitioned)  # noqa: E731
    for box in jax.tree.leaves(boxed, is_leaf=is_box):
        assert is_box(box)
        assert len(box.names) == len(box.value.shape)
        assert all(box.names)
        assert box.value.dtype == jnp.float32
