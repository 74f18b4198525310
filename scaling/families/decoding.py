"""The loop that continues sequences, one token after the other, of any family with a cache.

Takes a function that reads tokens and gives logits; gives the prompts with the new tokens behind
them. Called by the `generate` of families, inside their jit.
"""

from collections.abc import Callable
from typing import Any

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
