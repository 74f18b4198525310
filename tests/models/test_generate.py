"""Decoding with a cache is the full forward pass, and sampling is what it says."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_transformer import VOCAB, batch_of, init, logits_of, small, tokens_of

from scaling import families
from scaling.data.kinds.text.tokenizers import ByteTokenizer
from scaling.errors import UserError
from scaling.families.decoding import GREEDY, Sampling, nucleus, sample, stream
from scaling.families.lstm import LSTMConfig
from scaling.families.lstm import generate as lstm
from scaling.families.transformer.generate import generate, reader
from scaling.families.transformer.network import init_cache
from scaling.objectives.next_token.cross_entropy import logits
from scaling.serving.continuation import Written

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
    tokens = generate(BASE, params, prompt, 7, KEY, GREEDY)
    np.testing.assert_array_equal(tokens[:, :5], prompt)
    logits = logits_of(BASE)(params, batch_of(tokens))
    np.testing.assert_array_equal(tokens[:, 5:], logits[:, 4:-1].argmax(axis=-1))


def test_generation_depends_on_the_key_and_on_nothing_else():
    params, prompt = init(BASE), tokens_of(1, length=5)
    one, again = (generate(BASE, params, prompt, 7, KEY, Sampling(top_k=50)) for _ in range(2))
    other = generate(BASE, params, prompt, 7, jax.random.key(1), Sampling(top_k=50))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_one_token_can_be_asked_for():
    assert generate(BASE, init(BASE), tokens_of(1, length=1), 1, KEY).shape == (2, 2)


def test_sampling_follows_temperature_and_top_k():
    logits = jnp.log(jnp.array([0.5, 0.3, 0.15, 0.05]))
    draws = 20_000
    many = jnp.broadcast_to(logits[None], (draws, 4))

    def frequencies(temperature, top_k):
        chosen = sample(many, KEY, Sampling(temperature, top_k))
        return np.bincount(np.asarray(chosen), minlength=4) / draws

    four_standard_errors = 4 * np.sqrt(0.25 / draws)
    for temperature, top_k in ((1.0, None), (0.5, None), (1.0, 2), (2.0, 3)):
        wanted = np.exp(np.asarray(logits) / temperature)
        wanted[top_k or 4 :] = 0
        wanted /= wanted.sum()
        np.testing.assert_allclose(
            frequencies(temperature, top_k), wanted, atol=four_standard_errors
        )


def test_top_p_is_the_fewest_tokens_with_that_mass():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(50, 9)) * 2, jnp.float32)
    p = np.asarray(jax.nn.softmax(logits))
    for top_p in (0.01, 0.5, 0.9, 1.0):
        chosen = np.asarray(nucleus(logits, top_p))
        mass = np.where(chosen, p, 0).sum(axis=1)
        assert (mass >= top_p - 1e-6).all()
        least = np.where(chosen, p, np.inf).min(axis=1)
        assert (np.where(chosen, -np.inf, p).max(axis=1) <= least).all()
        assert (mass - least < top_p + 1e-6).all()  # without its least likely token, too little
    drawn = sample(jnp.tile(logits[:1], (500, 1)), KEY, Sampling(top_p=0.5))
    assert set(drawn.tolist()) == set(np.flatnonzero(nucleus(logits[:1], 0.5)[0]))


def test_the_penalty_is_of_tokens_that_are_there():
    logits = jnp.array([[2.0, 1.5, -1.0], [-1.0, -1.5, -4.0]])
    seen = jnp.array([[True, False, True], [True, False, False]])
    greedy = [sample(logits, KEY, Sampling(0.0, repetition_penalty=x), seen) for x in (1, 2)]
    assert [x.tolist() for x in greedy] == [[0, 0], [1, 1]]
    params, prompt = init(BASE), tokens_of(1, length=5)
    strong = Sampling(0.0, repetition_penalty=1e6)
    tokens = generate(BASE, params, prompt, 20, KEY, strong)
    for row in np.asarray(tokens):  # of a vocabulary that is large enough, none comes twice
        assert len(set(row[5:]) - set(row[:5])) == 20


@pytest.mark.slow
def test_a_stream_is_what_is_generated_at_once():
    params, prompt = init(BASE), tokens_of(1, length=5)
    for sampling in (Sampling(), Sampling(0.7, 20, 0.9, 1.3)):
        whole = np.asarray(generate(BASE, params, prompt, 20, KEY, sampling))
        pieces = list(stream(reader, BASE, params, prompt.tolist(), 20, KEY, sampling))
        assert [x.shape[1] for x in pieces] == [16, 4]
        np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole[:, 5:])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["transformer", "lstm"])
def test_prompts_of_several_lengths_are_continued_as_each_alone(family):
    config, params, read_by = BASE, init(BASE), reader
    if family == "lstm":
        config = LSTMConfig(width=16, depth=2, vocab=VOCAB)
        batch = {"tokens": tokens_of(1, length=5)}
        boxed = families.build(config).init(KEY, batch)["params"]
        params, read_by = nn.unbox(boxed), lstm.reader
    first, second = tokens_of(1, length=5).tolist()
    prompts = [first[:2], second]
    (both,) = stream(read_by, config, params, prompts, 4, KEY, GREEDY)
    for i, prompt in enumerate(prompts):
        (alone,) = stream(read_by, config, params, [prompt], 4, KEY, GREEDY)
        np.testing.assert_array_equal(both[i], alone[0])


def test_a_text_ends_before_a_stop_and_says_nothing_of_it():
    one, pieces = Written(ByteTokenizer(), ["\n\n", "END"]), [b"ab\n", b"cE", b"N", b"Dx", b"y"]
    assert [one.add(piece) for piece in pieces] == ["a", "b\n", "c", "", ""]
    assert (one.end(), one.text, one.done) == ("", "ab\nc", True)
    other = Written(ByteTokenizer(), ["END"])
    said = other.add("Ende ä".encode()[:6]) + other.add([0xA4, 256, 65])
    assert said + other.end() == other.text == "Ende ä"
    assert other.done
    rest = Written(ByteTokenizer(), ["END"])
    assert (rest.add(b"xEN"), rest.end()) == ("x", "EN")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"max_new": 0}, "max_new=0"),
        ({"sampling": Sampling(-1.0)}, "temperature=-1.0"),
        ({"sampling": Sampling(top_k=0)}, "top_k=0"),
        ({"sampling": Sampling(top_k=VOCAB + 1)}, f"top_k={VOCAB + 1}"),
        ({"sampling": Sampling(top_p=0.0)}, "top_p=0.0"),
        ({"sampling": Sampling(repetition_penalty=0.0)}, "repetition_penalty=0.0"),
        ({"prompt_BxP": jnp.zeros((1, 0), jnp.int32)}, "prompt"),
    ],
)
def test_bad_input_is_named(wrong, named):
    given = {"prompt_BxP": jnp.zeros((1, 1), jnp.int32), "max_new": 1, "rng": KEY}
    with pytest.raises(UserError, match=named):
        generate(BASE, None, **given | wrong)
