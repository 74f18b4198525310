"""The loop that continues sequences, one token after the other, of any family with a cache.

Takes a function that reads tokens and gives logits; gives the prompts with the new tokens behind
them. Called by the `generate` of families, inside their jit.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scaling.errors import UserError

Array = jax.Array


def check(
    prompt_BxP: Array, max_new: int, temperature: float, top_k: int | None, vocab: int | None
) -> None:
    """Raises UserError for an empty prompt, a number of tokens below 1, or a temperature or top_k
    that makes no distribution.
    """
    if prompt_BxP.shape[1] < 1:
        raise UserError("generate: the prompt is empty; give at least one token")
    if max_new < 1:
        raise UserError(f"generate: max_new={max_new} must be at least 1")
    if temperature < 0:
        raise UserError(f"generate: temperature={temperature} must not be negative")
    if top_k is not None and not 1 <= top_k <= (vocab or top_k):
        raise UserError(f"generate: top_k={top_k} must lie between 1 and {vocab} tokens")


def decode(
    read: Callable[[Array, Any], tuple[Array, Any]],
    cache: Any,
    prompt_BxP: Array,
    max_new: int,
    rng: Array,
    temperature: float,
    top_k: int | None,
) -> Array:
    """Tokens int32 [B, P + max_new].

    Args:
      read: (tokens [B, L], cache) -> (logits [B, V] after the last of them, the cache with them).
      cache: before the first token.
    """

    def step(carry: tuple[Array, Any], rng: Array) -> tuple[tuple[Array, Any], Array]:
        logits_BxV, cache = carry
        token_B = sample(logits_BxV, rng, temperature, top_k)
        return read(token_B[:, None], cache), token_B

    logits_BxV, cache = read(prompt_BxP, cache)
    # The last token is drawn after the scan: nothing needs to be read after it.
    keys = jax.random.split(rng, max_new)
    (logits_BxV, _), tokens_NxB = jax.lax.scan(step, (logits_BxV, cache), keys[:-1])
    last_B = sample(logits_BxV, keys[-1], temperature, top_k)
    return jnp.concatenate([prompt_BxP, tokens_NxB.T, last_B[:, None]], axis=1)


def sample(logits_BxV: Array, rng: Array, temperature: float, top_k: int | None) -> Array:
    """One token a row, int32 [B]: the most likely one at temperature 0, else drawn, among the
    `top_k` most likely ones if that is given.
    """
    if temperature == 0:
        return jnp.argmax(logits_BxV, axis=-1).astype(jnp.int32)
    if top_k is not None:
        least_Bx1 = jax.lax.top_k(logits_BxV, top_k)[0][:, -1:]
        logits_BxV = jnp.where(logits_BxV < least_Bx1, -jnp.inf, logits_BxV)
    return jax.random.categorical(rng, logits_BxV / temperature, axis=-1).astype(jnp.int32)


class Beam(NamedTuple):
    """The most likely text of each row that was found."""

    tokens: Array  # int32 [B, N], filled up with the separator
    log_probability: Array  # float32 [B], of the tokens up to the first separator, that included


def beam_search(
    read: Callable[[Array, Any], tuple[Array, Any]],
    cache: Any,
    rows: int,
    max_new: int,
    separator: int,
    beams: int,
) -> Beam:
    """The text of the largest log-probability among `beams` that are followed at once (Lowerre
    1976). A text that has ended stays among them for as long as it is likely enough; no length is
    preferred. One beam is greedy decoding.

    Args:
      read: (tokens [rows], cache) -> (logits [rows, V] after them, the cache with them).
      cache: before the first token; arrays whose first axis is `rows`, and scalars.
      separator: begins a text and ends it.
    """

    def repeated(x: Array) -> Array:
        return jnp.repeat(x, beams, axis=0) if jnp.ndim(x) else x

    def step(carry: Any, place: Array) -> tuple[Any, None]:
        tokens_RxKxN, score_RxK, ended_RxK, last_RxK, cache = carry
        logits_BxV, cache = read(last_RxK.reshape(-1), cache)
        log_p_RxKxV = jax.nn.log_softmax(logits_BxV.astype(jnp.float32)).reshape(rows, beams, -1)
        vocab = log_p_RxKxV.shape[-1]
        # A text that has ended goes on with separators only, at no cost.
        stays_V = jnp.where(jnp.arange(vocab) == separator, 0.0, -jnp.inf)
        log_p_RxKxV = jnp.where(ended_RxK[:, :, None], stays_V[None, None], log_p_RxKxV)
        total_RxKV = (score_RxK[:, :, None] + log_p_RxKxV).reshape(rows, -1)
        score_RxK, chosen_RxK = jax.lax.top_k(total_RxKV, beams)
        beam_RxK, token_RxK = chosen_RxK // vocab, (chosen_RxK % vocab).astype(jnp.int32)
        tokens_RxKxN = jnp.take_along_axis(tokens_RxKxN, beam_RxK[:, :, None], axis=1)
        tokens_RxKxN = jax.lax.dynamic_update_slice_in_dim(
            tokens_RxKxN, token_RxK[:, :, None], place, axis=2
        )
        ended_RxK = jnp.take_along_axis(ended_RxK, beam_RxK, axis=1) | (token_RxK == separator)
        from_B = (jnp.arange(rows)[:, None] * beams + beam_RxK).reshape(-1)
        cache = jax.tree.map(lambda x: x[from_B] if jnp.ndim(x) else x, cache)
        return (tokens_RxKxN, score_RxK, ended_RxK, token_RxK, cache), None

    begun = (
        jnp.full((rows, beams, max_new), separator, jnp.int32),
        # One text to begin with: the others would be copies of it.
        jnp.where(jnp.arange(beams) == 0, 0.0, -jnp.inf)[None].repeat(rows, axis=0),
        jnp.zeros((rows, beams), bool),
        jnp.full((rows, beams), separator, jnp.int32),
        jax.tree.map(repeated, cache),
    )
    (tokens_RxKxN, score_RxK, *_), _ = jax.lax.scan(step, begun, jnp.arange(max_new))
    return Beam(tokens_RxKxN[:, 0], score_RxK[:, 0])
