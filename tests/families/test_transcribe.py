"""Best paths and prefix searches against all paths, one after the other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scaling.families.speech.transcribe import best_path, prefix_search

VOCAB, LENGTH, ROOM = 3, 4, 4  # two letters and the blank, 2
FRAMES = [4, 3]


def log_probabilities() -> jax.Array:
    logits = 1.5 * np.random.default_rng(0).normal(size=(2, LENGTH, VOCAB))
    return jax.nn.log_softmax(jnp.asarray(logits, jnp.float32))


def text_of(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token != VOCAB - 1)


def sums(log_p: np.ndarray) -> dict[tuple[int, ...], float]:
    """The log-probability of every text, by its paths."""
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(VOCAB), repeat=len(log_p)):
        score = sum(float(row[token]) for row, token in zip(log_p, path, strict=True))
        found[text_of(path)] = np.logaddexp(found.get(text_of(path), -np.inf), score)
    return found


def as_text(tokens: np.ndarray) -> tuple[int, ...]:
    return tuple(int(token) for token in tokens if token != VOCAB - 1)


def test_a_wide_prefix_search_finds_the_likeliest_text_and_its_probability():
    log_p = log_probabilities()
    tokens, scores = prefix_search(log_p, jnp.array(FRAMES), ROOM, beams=16)
    for i, frames in enumerate(FRAMES):
        all_texts = sums(np.asarray(log_p[i, :frames]))
        best = max(all_texts, key=lambda text: all_texts[text])
        assert as_text(np.asarray(tokens[i])) == best
        np.testing.assert_allclose(scores[i], all_texts[best], rtol=1e-5)


def test_the_score_of_a_search_is_minus_the_loss_of_its_text():
    log_p, frames = log_probabilities(), jnp.array(FRAMES)
    tokens, scores = prefix_search(log_p, frames, ROOM, beams=16)
    behind = (jnp.arange(LENGTH)[None] >= frames[:, None]).astype(jnp.float32)
    missing = (tokens == VOCAB - 1).astype(jnp.float32)
    loss = optax.ctc_loss(log_p, behind, tokens * (missing == 0), missing, blank_id=VOCAB - 1)
    np.testing.assert_allclose(scores, -loss, rtol=1e-5)


def test_the_best_path_is_the_likeliest_path_and_its_text():
    log_p = log_probabilities()
    tokens, scores = best_path(log_p, jnp.array(FRAMES), ROOM)
    for i, frames in enumerate(FRAMES):
        rows = np.asarray(log_p[i, :frames])
        assert as_text(np.asarray(tokens[i])) == text_of(tuple(rows.argmax(axis=1).tolist()))
        np.testing.assert_allclose(scores[i], rows.max(axis=1).sum(), rtol=1e-5)


def test_a_text_longer_than_its_room_is_cut():
    path = jnp.log(jnp.eye(VOCAB)[jnp.array([0, 1, 0, 1])] + 1e-9)[None]
    for tokens, _ in (
        best_path(path, jnp.array([4]), 2),
        prefix_search(path, jnp.array([4]), 2, 4),
    ):
        assert tokens.shape == (1, 2)
    assert as_text(np.asarray(best_path(path, jnp.array([4]), 2)[0][0])) == (0, 1)
