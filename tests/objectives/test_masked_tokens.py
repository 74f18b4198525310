"""Which tokens are hidden, how, and what is measured of them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.config import base_config, from_dict, override
from scaling.errors import ConfigError
from scaling.objectives.masked_tokens import MaskedTokensConfig, count
from scaling.objectives.masked_tokens.rows import beginnings, hidden, masked, rows
from scaling.studies import study

VOCAB, LENGTH, ROWS = 257, 64, 400
PLAIN = MaskedTokensConfig()


@functools.cache
def drawn(config: MaskedTokensConfig):
    """(tokens, counts, what is hidden) of many rows of random letters and spaces."""
    rng = np.random.default_rng(0)
    letters = np.frombuffer(b"abcdefghij  ._", np.uint8).astype(np.int32)
    tokens = letters[rng.integers(0, len(letters), (ROWS, LENGTH))]
    counts = np.ones((ROWS, LENGTH), bool)
    counts[::2, 40:] = False
    keys = jax.random.split(jax.random.key(0), ROWS)
    hide = jax.jit(jax.vmap(functools.partial(hidden, config, VOCAB)))
    return tokens, counts, jax.device_get(hide(keys, tokens, counts))


def test_a_share_of_the_tokens_that_count_is_hidden_in_three_ways():
    tokens, counts, seen = drawn(PLAIN)
    most = count(0.15, LENGTH)
    assert seen.places_M.shape == (ROWS, most)
    assert (seen.weight_M == 1).all()
    assert np.take_along_axis(counts, seen.places_M, axis=1).all()
    assert all(len(set(row)) == most for row in seen.places_M.tolist())
    changed = np.ones_like(tokens, bool)
    np.put_along_axis(changed, seen.places_M, False, axis=1)
    np.testing.assert_array_equal(seen.tokens_L[changed], tokens[changed])
    told = np.take_along_axis(seen.tokens_L, seen.places_M, axis=1)
    own = np.take_along_axis(tokens, seen.places_M, axis=1)
    masked = (told == VOCAB).mean()
    kept = (told == own).mean()
    error = 4 * np.sqrt(0.16 / told.size)  # four standard errors
    assert abs(masked - 0.8) < error
    assert abs(kept - 0.1 * (1 + 1 / VOCAB)) < error
    # Every place is as likely as every other: of rows that count whole.
    often = np.bincount(seen.places_M[1::2].ravel(), minlength=LENGTH) / (ROWS // 2)
    assert np.abs(often - most / LENGTH).max() < 5 * np.sqrt(0.15 * 0.85 / (ROWS // 2))


def test_a_token_masks_where_one_is_named():
    _, _, seen = drawn(PLAIN)
    _, _, by_token = drawn(dataclasses.replace(PLAIN, mask_token=7))  # no letter
    np.testing.assert_array_equal(by_token.places_M, seen.places_M)
    masked = seen.tokens_L == VOCAB
    assert masked.any()
    np.testing.assert_array_equal(by_token.tokens_L, np.where(masked, 7, seen.tokens_L))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"objective.mask_token": 3}, "model.mask_row=True and objective.mask_token=3"),
        ({"model.mask_row": False}, "model.mask_row=False and objective.mask_token=None"),
    ],
)
def test_what_masks_is_one_thing(fields, said):
    config = override(from_dict(base_config("bert", "text", "masked_tokens")), fields)
    with pytest.raises(ConfigError, match=said):
        study.resolve_planned(override(config, {"model.vocab": 257}))


def test_what_masks_is_a_token_that_there_is():
    tokens, counts, _ = drawn(PLAIN)
    batch = {"tokens": tokens, "loss_mask": counts}
    config = dataclasses.replace(PLAIN, mask_token=VOCAB)
    with pytest.raises(ConfigError, match=r"objective\.mask_token=257 is none of the 257 tokens"):
        masked(config, lambda fields: {"table": jnp.ones((VOCAB, 4))}, batch, None)


def test_words_are_hidden_whole():
    tokens, counts, seen = drawn(
        dataclasses.replace(PLAIN, whole_words=True, masked=1.0, random=0.0)
    )
    begins = np.asarray(jax.vmap(beginnings)(tokens))
    for row in range(ROWS):
        hides = seen.tokens_L[row] == VOCAB
        assert hides.sum() == seen.weight_M[row].sum() <= count(0.15, LENGTH)
        for word in np.unique(begins[row][hides]):
            inside = (begins[row] == word) & counts[row]
            assert hides[inside].all()
    assert seen.weight_M.mean() > 0.7


def test_words_begin_where_letters_follow_on_none():
    text = np.frombuffer("ab_1 c,ä".encode(), np.uint8).astype(np.int32)
    np.testing.assert_array_equal(beginnings(jnp.array(text)), [0, 0, 0, 0, 4, 5, 6, 7, 7])


def test_the_loss_is_that_of_the_hidden_tokens():
    """A model that says the first token everywhere."""
    tokens, counts, _ = drawn(PLAIN)
    batch = {"tokens": jnp.array(tokens), "loss_mask": jnp.array(counts, jnp.float32)}
    table = 8.0 * jnp.eye(VOCAB + 1, 4) + jnp.zeros((VOCAB + 1, 4)).at[ord("a"), 0].set(9.0)

    def model(fields):
        places = fields.get("places", fields["tokens"])
        return {"masked": jnp.ones((*places.shape, 4)), "table": table}

    keys = jax.random.split(jax.random.key(1), ROWS)
    found = rows(PLAIN).rows_by(model, batch, keys, {})
    logits = table.sum(axis=1)
    seen = jax.vmap(functools.partial(hidden, PLAIN, VOCAB))(keys, batch["tokens"], counts)
    own = np.take_along_axis(tokens, np.asarray(seen.places_M), axis=1)
    nats = (jax.nn.logsumexp(logits) - logits)[own]
    np.testing.assert_allclose(found.sums["loss"].total, nats.sum(axis=1), rtol=1e-5)
    right = (own == ord("a")).sum(axis=1)
    np.testing.assert_array_equal(found.sums["accuracy"].total, right)
