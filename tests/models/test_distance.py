"""How a query knows where a key is: by rotation, by a bias, or not at all."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_transformer import batch_of, init, logits_of, small, tokens_of

from scaling import families
from scaling.errors import ConfigError
from scaling.families.transformer.network import init_cache
from scaling.models.attention import attention
from scaling.models.distance import slopes, with_distance
from scaling.objectives.next_token.cross_entropy import logits


@pytest.mark.parametrize("length", [16, 384])  # the short form, and the long one
def test_a_bias_falls_with_the_distance(length: int):
    """Against softmax(q k / sqrt(K) - slope * distance) v over all pairs at once."""
    keys = jax.random.split(jax.random.key(0), 3)
    q = jax.random.normal(keys[0], (1, 4, length, 8))
    k, v = (jax.random.normal(key, (1, 2, length, 8)) for key in keys[1:])
    found = attention(*with_distance(q, k, v), None)[..., :8]
    np.testing.assert_allclose(slopes(4), [0.25, 0.0625, 0.015625, 0.00390625])
    distance = jnp.arange(length)[:, None] - jnp.arange(length)[None, :]
    scores = jnp.einsum("bhlk,bhsk->bhls", q, k.repeat(2, axis=1)) / np.sqrt(8)
    scores -= slopes(4)[None, :, None, None] * distance[None, None]
    weights = jax.nn.softmax(jnp.where(distance[None, None] >= 0, scores, -jnp.inf), axis=-1)
    expected = jnp.einsum("bhls,bhsk->bhlk", weights, v.repeat(2, axis=1))
    # Scores reach length / 4, of which float32 keeps 1e-5.
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_cached_decoding_is_the_full_forward_pass():
    config = small(positions="alibi")
    params, tokens = init(config), tokens_of(1, length=8)
    model, batch = families.build(config), batch_of(tokens)
    read = jax.jit(lambda batch, cache: model.apply({"params": params}, batch, cache))
    cache, pieces = init_cache(config, 2, 8), []
    for piece in (slice(0, 4), slice(4, 8)):
        outputs = read({name: x[:, piece] for name, x in batch.items()}, cache)
        cache = outputs["cache"]
        pieces.append(logits(outputs))
    wanted = logits_of(config)(params, batch)
    np.testing.assert_allclose(jnp.concatenate(pieces, axis=1), wanted, rtol=1e-4, atol=1e-5)


def test_without_positions_earlier_places_are_a_set():
    """In one block; positions that are given change nothing."""
    config = small(positions="none", depth=1)
    params, tokens = init(config), tokens_of(2, length=16)
    order = jnp.array([*np.random.default_rng(0).permutation(15), 15])
    batch = batch_of(tokens)
    last = logits_of(config)(params, batch)[:, -1]
    mixed = logits_of(config)(params, batch_of(tokens[:, order]))[:, -1]
    np.testing.assert_allclose(mixed, last, rtol=1e-4, atol=1e-5)
    moved = logits_of(config)(params, batch | {"positions": batch["positions"] + 7})[:, -1]
    np.testing.assert_array_equal(moved, last)


def test_longer_rows_are_read_at_positions_between_those_of_training():
    config, plain = small(rope_length=8, depth=1), small(depth=1)
    params, tokens = init(plain), tokens_of(3, length=16)
    batch, short = batch_of(tokens), batch_of(tokens[:, :8])
    np.testing.assert_array_equal(logits_of(config)(params, short), logits_of(plain)(params, short))
    halves = batch | {"positions": batch["positions"] / 2}
    np.testing.assert_allclose(
        logits_of(config)(params, batch), logits_of(plain)(params, halves), rtol=1e-5, atol=1e-6
    )


def test_a_kernel_that_cannot_add_biases_is_refused():
    with pytest.raises(ConfigError, match=r"model\.attention=splash"):
        small(positions="alibi", attention="splash")
    assert dataclasses.replace(small(), positions="alibi").attention == "auto"
