"""Decoding with a cache is the full forward pass, and sampling is what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_transformer import VOCAB, batch_of, init, logits_of, small, tokens_of

from scaling import families
from scaling.errors import UserError
from scaling.families.decoding import sample
from scaling.families.transformer.generate import generate
from scaling.families.transformer.network import init_cache
from scaling.objectives.next_token.cross_entropy import logits

BASE = small()
KEY = jax.random.key(0)


@pytest.mark.parametrize(
    "config",
    [
        BASE,
        small(kv_heads=4, qk_norm=False, scan_layers=False, window=6),
        small(kv_heads=1, mlp="plain", tie_embeddings=False, logit_softcap=3.0),
    ],
)
def test_cached_decoding_is_the_full_forward_pass(config):
    """Read 5 tokens at once, then one at a time: the same logits at every position."""
    params, tokens = init(config), tokens_of(1, length=16)
    model, batch = families.build(config), batch_of(tokens)
    wanted = logits_of(config)(params, batch)
    read = jax.jit(lambda batch, cache: model.apply({"params": params}, batch, cache))
    cache, pieces = init_cache(config, 2, 16), []
    for piece in (slice(0, 5), *(slice(i, i + 1) for i in range(5, 16))):
        outputs = read({name: x[:, piece] for name, x in batch.items()}, cache)
        cache = outputs["cache"]
        pieces.append(logits(outputs))
    # The same sums over 16 slots instead of as many as there are yet.
    np.testing.assert_allclose(jnp.concatenate(pieces, axis=1), wanted, rtol=1e-4, atol=1e-5)


def test_greedy_generation_takes_the_most_likely_token_each_time():
    params, prompt = init(BASE), tokens_of(1, length=5)
    tokens = generate(BASE, params, prompt, 7, KEY, temperature=0)
    np.testing.assert_array_equal(tokens[:, :5], prompt)
    logits = logits_of(BASE)(params, batch_of(tokens))
    np.testing.assert_array_equal(tokens[:, 5:], logits[:, 4:-1].argmax(axis=-1))


def test_generation_depends_on_the_key_and_on_nothing_else():
    params, prompt = init(BASE), tokens_of(1, length=5)
    one, again = (generate(BASE, params, prompt, 7, KEY, top_k=50) for _ in range(2))
    other = generate(BASE, params, prompt, 7, jax.random.key(1), top_k=50)
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_one_token_can_be_asked_for():
    assert generate(BASE, init(BASE), tokens_of(1, length=1), 1, KEY).shape == (2, 2)


def test_sampling_follows_temperature_and_top_k():
    logits = jnp.log(jnp.array([0.5, 0.3, 0.15, 0.05]))
    draws = 20_000
    many = jnp.broadcast_to(logits[None], (draws, 4))

    def frequencies(temperature, top_k):
        chosen = sample(many, KEY, temperature, top_k)
        return np.bincount(np.asarray(chosen), minlength=4) / draws

    four_standard_errors = 4 * np.sqrt(0.25 / draws)
    for temperature, top_k in ((1.0, None), (0.5, None), (1.0, 2), (2.0, 3)):
        wanted = np.exp(np.asarray(logits) / temperature)
        wanted[top_k or 4 :] = 0
        wanted /= wanted.sum()
        np.testing.assert_allclose(
            frequencies(temperature, top_k), wanted, atol=four_standard_errors
        )


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"max_new": 0}, "max_new=0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_k": VOCAB + 1}, f"top_k={VOCAB + 1}"),
        ({"prompt_BxP": jnp.zeros((1, 0), jnp.int32)}, "prompt"),
    ],
)
def test_bad_input_is_named(wrong, named):
    given = {"prompt_BxP": jnp.zeros((1, 1), jnp.int32), "max_new": 1, "rng": KEY}
    with pytest.raises(UserError, match=named):
        generate(BASE, None, **given | wrong)
