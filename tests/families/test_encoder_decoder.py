"""The encoder-decoder: what its cache, its masks and its beams are against plain recomputation."""

import dataclasses
import functools
import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.config.contracts import Facts
from scaling.errors import ConfigError
from scaling.families import predictions
from scaling.families.encoder_decoder import FAMILY, EncoderDecoderConfig
from scaling.families.encoder_decoder.network import Network
from scaling.families.encoder_decoder.translate import translate
from scaling.objectives.next_token import NextTokenConfig
from scaling.objectives.next_token.cross_entropy import logits
from scaling.objectives.next_token.rows import next_token

VOCAB, SEPARATOR = 7, 6
FACTS = Facts("", 1, 1, {"vocab": VOCAB})
SMALL = EncoderDecoderConfig(width=8, depth=2, heads=2, encoder_depth=1)
# The same sums in another order.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def config(**fields: Any) -> EncoderDecoderConfig:
    return FAMILY.resolve(dataclasses.replace(SMALL, **fields), FACTS)


@functools.cache
def batch() -> dict[str, jax.Array]:
    """Three rows; the second source is shorter."""
    rng = np.random.default_rng(0)
    source, tokens = rng.integers(0, SEPARATOR, (3, 5)), rng.integers(0, SEPARATOR, (3, 4))
    tokens[:, 0] = SEPARATOR
    segments = np.ones((3, 5), np.int32)
    segments[1, 3:] = 0
    arrays = {"source": source, "source_segments": segments, "tokens": tokens}
    arrays["positions"] = np.tile(np.arange(4), (3, 1))
    return {name: jnp.asarray(x, jnp.int32) for name, x in arrays.items()}


@functools.cache
def params_of(config: EncoderDecoderConfig) -> Any:
    """Moved by noise, so that what starts alike differs."""
    params = nn.unbox(jax.jit(Network(config).init)(jax.random.key(0), batch())["params"])
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda p: p + 0.3 * rng.normal(size=p.shape).astype(p.dtype), params)


@functools.cache
def apply_of(config: EncoderDecoderConfig) -> Any:
    params = {"params": params_of(config)}
    return jax.jit(lambda batch: logits(Network(config).apply(params, batch)))


FORMS = [
    {},
    {"positions": "sinusoidal", "tie_embeddings": False, "qk_norm": False},
    {
        **{"positions": "relative", "buckets": 4, "distance": 3, "scale_scores": False},
        **{"scale_head": True, "activation": "relu"},
    },
    {"reading_positions": True},
    {"pointer": True, "reading_positions": True},
]
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "fields",
    # Sources are turned by their own places once, targets by theirs at each step.
    [pytest.param(FORMS[0], marks=SLOW), FORMS[1], pytest.param(FORMS[3], marks=SLOW), FORMS[4]],
)
def test_a_token_at_a_time_is_all_at_once(fields):
    one = config(**fields)
    model, params = Network(one), {"params": params_of(one)}
    source = {name: batch()[name] for name in ("source", "source_segments")}
    cache = jax.jit(lambda source: model.apply(params, source, None, 4)["cache"])(source)
    step = jax.jit(lambda token, cache: model.apply(params, {"tokens": token}, cache))
    found = []
    for place in range(4):
        outputs = step(batch()["tokens"][:, place : place + 1], cache)
        cache = outputs["cache"]
        found.append(logits(outputs))
    np.testing.assert_allclose(jnp.concatenate(found, axis=1), apply_of(one)(batch()), **CLOSE)


@pytest.mark.slow
def test_what_is_behind_a_source_s_end_changes_nothing_and_the_rest_does():
    apply, whole = apply_of(config()), apply_of(config())(batch())
    for place, matters in ((4, False), (2, True)):
        source = batch()["source"].at[1, place].add(1)
        changed = apply(batch() | {"source": source})
        np.testing.assert_array_equal(changed[jnp.array([0, 2])], whole[jnp.array([0, 2])])
        assert bool((changed[1] != whole[1]).any()) == matters


@pytest.mark.slow
def test_where_a_text_stands_matters_to_reading_that_has_positions_alone():
    """A source and its positions moved by two places, with nothing before it."""
    moved = {name: jnp.pad(x, ((0, 0), (2, 0))) for name, x in batch().items() if "source" in name}
    for positions, same in ((False, True), (True, False)):
        apply = apply_of(config(reading_positions=positions))
        there, here = apply(batch() | moved), apply(batch())
        assert bool(np.allclose(there, here, **CLOSE)) == same


def test_no_place_looks_ahead_in_the_target():
    apply, whole = apply_of(config()), apply_of(config())(batch())
    changed = apply(batch() | {"tokens": batch()["tokens"].at[:, 2].add(1)})
    np.testing.assert_array_equal(changed[:, :2], whole[:, :2])
    assert bool((changed[:, 2] != whole[:, 2]).any())


@pytest.mark.slow
def test_what_is_dropped_goes_by_the_keys_of_the_rows_alone():
    """However layers are run and rows are batched; without keys nothing is."""
    plain, one = config(pointer=True), config(pointer=True, dropout=0.5, scan_layers=True)
    params = {"params": params_of(plain)}
    keys = jax.random.key_data(jax.random.split(jax.random.key(3), 3))
    given = batch() | {"dropout": keys}

    def found(one: EncoderDecoderConfig, given: Any) -> jax.Array:
        return jax.jit(lambda given: logits(Network(one).apply(params, given)))(given)

    whole = found(one, given)
    unrolled = dataclasses.replace(one, scan_layers=False, remat="full")
    np.testing.assert_allclose(found(unrolled, given), whole, **CLOSE)
    last = {name: x[2:] for name, x in given.items()}
    np.testing.assert_allclose(found(one, last), whole[2:], **CLOSE)
    assert not np.allclose(found(plain, given), whole, rtol=0.1)
    np.testing.assert_allclose(found(one, batch()), found(plain, batch()), **CLOSE)


# ---- the pointer


def gated(one: EncoderDecoderConfig, logit: float) -> Any:
    """Logits of the batch with the gate at so much everywhere, and all outputs behind them."""
    params = dict(params_of(one))
    gate = {"w": jnp.zeros((8, 1)), "bias": jnp.full((1,), logit)}
    params["pointer"] = {**params["pointer"], "gate": gate}
    outputs = jax.jit(Network(one).apply)({"params": params}, batch())
    return logits(outputs), outputs


def test_a_gate_that_is_open_is_the_model_without_a_pointer():
    one = config(pointer=True)
    found, outputs = gated(one, 100.0)
    without = params_of(one).copy()
    del without["pointer"]
    plain = Network(config()).apply({"params": without}, batch())
    np.testing.assert_allclose(found, logits(plain), **CLOSE)
    assert outputs["pointed"].weights.shape == (3, 4, 5)


def test_a_gate_that_is_shut_writes_what_it_points_to():
    """Each token as likely as all places of the source are that have it; none beyond its end."""
    found, outputs = gated(config(pointer=True, reading_positions=True), -100.0)
    weights, source = np.asarray(outputs["pointed"].weights), np.asarray(batch()["source"])
    np.testing.assert_array_equal(weights[1, :, 3:], 0)
    wanted = np.zeros((3, 4, VOCAB))
    for row, place in itertools.product(range(3), range(5)):
        wanted[row, :, source[row, place]] += weights[row, :, place]
    np.testing.assert_allclose(jax.nn.softmax(found), wanted, **CLOSE)


def test_a_mixture_is_between_the_two_and_as_large_as_the_logits():
    """z-loss goes by the size of the logits: their normaliser is that of the vocabulary's."""
    one = config(pointer=True)
    own, copied = (jax.nn.softmax(gated(one, logit)[0]) for logit in (100.0, -100.0))
    found, outputs = gated(one, 1.0)
    share = jax.nn.sigmoid(1.0)
    np.testing.assert_allclose(jax.nn.softmax(found), share * own + (1 - share) * copied, **CLOSE)
    plain = logits({name: outputs[name] for name in ("hidden", "head")})
    log_z = [jax.nn.logsumexp(x, axis=-1) for x in (found, plain)]
    np.testing.assert_allclose(*log_z, **CLOSE)
    np.testing.assert_array_equal(predictions(outputs)["logits"], found)


def test_what_a_loss_makes_of_a_mixture():
    """Smoothed labels are as far from the target's logit as the mean of all logits is."""
    _, outputs = gated(config(pointer=True), 1.0)
    given = batch() | {"targets": batch()["tokens"], "loss_mask": jnp.ones((3, 4))}
    given["target_bytes"] = jnp.ones((3, 4), jnp.int32)
    rows = next_token(NextTokenConfig(label_smoothing=0.1)).rows_of(outputs, given)
    found = logits(outputs)
    target = jnp.take_along_axis(found, given["targets"][..., None], axis=-1)[..., 0]
    nats = jax.nn.logsumexp(found, axis=-1) - target
    np.testing.assert_allclose(rows.minimised, nats.sum(axis=1), **CLOSE)
    smoothed = (target - found.mean(axis=-1)).sum(axis=1)
    np.testing.assert_allclose(rows.penalties["label_smoothing"], smoothed, **CLOSE)
    with pytest.raises(ConfigError, match=r"objective\.chunk=2"):
        next_token(NextTokenConfig(chunk=2)).rows_of(outputs, given)


# ---- writing


def log_p_of(one: EncoderDecoderConfig, row: int, text: tuple[int, ...]) -> float:
    """Of a text that ends in the separator, or is as long as may be, by the forward pass."""
    tokens = np.full((1, 4), 0)
    tokens[0, : len(text)] = (SEPARATOR, *text[:-1])
    found = {name: x[row : row + 1] for name, x in batch().items()}
    found["tokens"] = jnp.asarray(tokens, jnp.int32)
    log_p = jax.nn.log_softmax(apply_of(one)(found))[0]
    return float(sum(log_p[i, token] for i, token in enumerate(text)))


def written(one: EncoderDecoderConfig, most: int, beams: int) -> tuple[np.ndarray, np.ndarray]:
    source = batch()["source"], batch()["source_segments"]
    return jax.device_get(translate(one, params_of(one), *source, most, SEPARATOR, beams))


def cut(row: np.ndarray) -> tuple[int, ...]:
    text = row.tolist()
    return tuple(text[: text.index(SEPARATOR) + 1] if SEPARATOR in text else text)


@pytest.mark.parametrize(
    ("beams", "pointer"), [(1, False), (3, True), pytest.param(3, False, marks=pytest.mark.slow)]
)
def test_the_score_of_a_text_is_the_model_s_log_probability(beams, pointer):
    one = config(pointer=pointer)
    tokens, scores = written(one, 4, beams)
    for row in range(3):
        assert scores[row] == pytest.approx(log_p_of(one, row, cut(tokens[row])), rel=1e-4)


def test_one_beam_takes_the_likeliest_token_each_time():
    tokens, _ = written(config(), 4, 1)
    for row in range(3):
        text: tuple[int, ...] = ()
        while len(text) < 4 and (not text or text[-1] != SEPARATOR):
            options = [(*text, token) for token in range(VOCAB)]
            text = max(options, key=lambda option: log_p_of(config(), row, option))
        assert cut(tokens[row]) == text


def test_as_many_beams_as_there_are_texts_find_the_likeliest():
    """Of all texts of two tokens at most."""
    tokens, scores = written(config(), 2, VOCAB**2)
    others = range(SEPARATOR)
    every = [(SEPARATOR,), *itertools.product(others, range(VOCAB))]
    for row in range(3):
        best = max(every, key=lambda text: log_p_of(config(), row, text))
        assert cut(tokens[row]) == best
        assert scores[row] == pytest.approx(log_p_of(config(), row, best), rel=1e-4)


@pytest.mark.slow
def test_several_write_by_the_mean_of_their_probabilities():
    one, source = config(tie_embeddings=False), (batch()["source"], batch()["source_segments"])
    members = params_of(one), jax.tree.map(jnp.flip, params_of(one))
    rest = *source, 4, SEPARATOR, 2
    tokens, scores = jax.device_get(translate(one, members, *rest))
    given = batch() | {"tokens": np.roll(tokens, 1, axis=1).astype(np.int32)}
    given["tokens"][:, 0] = SEPARATOR
    apply = jax.jit(
        lambda p, given: jax.nn.softmax(logits(Network(one).apply({"params": p}, given)))
    )
    each = np.mean([apply(p, given) for p in members], axis=0)
    for row in range(3):
        text = cut(tokens[row])
        wanted = sum(np.log(each[row, place, token]) for place, token in enumerate(text))
        assert scores[row] == pytest.approx(wanted, rel=1e-4)
    alone = jax.device_get(translate(one, members[0], *rest))
    np.testing.assert_array_equal(translate(one, members[:1], *rest)[0], alone[0])
    assert max(len(cut(row)) for row in tokens) > 1
    assert not np.allclose(scores, alone[1], rtol=1e-2)


def test_what_cannot_be_is_said():
    for fields, says in (
        ({"heads": 3}, r"model\.heads=3"),
        ({"head_dim": 3}, r"model\.head_dim=3"),
        ({"vocab": 5}, r"model\.vocab=5"),
    ):
        with pytest.raises(ConfigError, match=says):
            config(**fields)


def test_another_width_keeps_heads_and_proportions():
    base = dataclasses.replace(SMALL, width=64, heads=4, mlp_width=96, encoder_depth=4)
    assert FAMILY.scaled(base, 32, 1) == {
        "model.width": 32,
        "model.depth": 1,
        "model.encoder_depth": 2,
        "model.heads": 2,
        "model.head_dim": 16,
        "model.mlp_width": 48,
    }
