"""Continues a prompt, one token at a time, with a cache of keys and values.

Takes a resolved model config, its parameters and prompt tokens; gives the prompt with the new
tokens behind it. The prompt is read in one pass, the rest in a `lax.scan` of one-token steps, all
in one compiled program. `launch.py generate` calls it.
"""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp

from scaling.errors import UserError
from scaling.families import build
from scaling.families.transformer.fields import TransformerConfig
from scaling.families.transformer.network import Params, init_cache
from scaling.objectives.next_token.cross_entropy import logits

Array = jax.Array


def generate(
    config: TransformerConfig,
    params: Params,
    prompt_BxP: Array,
    max_new: int,
    rng: Array,
    temperature: float = 1.0,
    top_k: int | None = None,
) -> Array:
    """Tokens int32 [B, P + max_new]: the prompts and what the model continues them with.

    Args:
      config: resolved; decides whether `params` are scanned or unrolled.
      prompt_BxP: int32, P >= 1; every row is one document from its beginning.
      max_new: tokens to add, at least 1.
      rng: a JAX key.
      temperature: logits are divided by it before sampling; 0 takes the most likely token.
      top_k: sample among the k most likely tokens only; None: among all.

    Raises:
      UserError: an empty prompt, a number of tokens below 1, or a temperature or top_k that makes
        no distribution.
    """
    if prompt_BxP.shape[1] < 1:
        raise UserError("generate: the prompt is empty; give at least one token")
    if max_new < 1:
        raise UserError(f"generate: max_new={max_new} must be at least 1")
    if temperature < 0:
        raise UserError(f"generate: temperature={temperature} must not be negative")
    if top_k is not None and not 1 <= top_k <= (config.vocab or top_k):
        raise UserError(f"generate: top_k={top_k} must lie between 1 and {config.vocab} tokens")
    return _generate(config, params, prompt_BxP, rng, max_new, temperature, top_k)


@functools.partial(jax.jit, static_argnames=("config", "max_new", "temperature", "top_k"))
def _generate(
    config: TransformerConfig,
    params: Params,
    prompt_BxP: Array,
    rng: Array,
    max_new: int,
    temperature: float,
    top_k: int | None,
) -> Array:
    model = build(config)
    batch_size, prompt_length = prompt_BxP.shape

    def read(tokens_BxL: Array, cache: dict) -> tuple[Array, dict]:
        """(logits after the last of the tokens, the cache with all of them)."""
        positions_L = cache["length"] + jnp.arange(tokens_BxL.shape[1])
        batch = {
            "tokens": tokens_BxL,
            "positions": jnp.broadcast_to(positions_L[None], tokens_BxL.shape),
            "segment_ids": jnp.ones_like(tokens_BxL),
        }
        outputs = cast(dict[str, Any], model.apply({"params": params}, batch, cache))
        outputs["hidden"] = outputs["hidden"][:, -1:]
        return logits(outputs)[:, 0], outputs["cache"]

    def step(carry: tuple[Array, dict], rng: Array) -> tuple[tuple[Array, dict], Array]:
        logits_BxV, cache = carry
        token_B = sample(logits_BxV, rng, temperature, top_k)
        return read(token_B[:, None], cache), token_B

    cache = init_cache(config, batch_size, prompt_length + max_new)
    logits_BxV, cache = read(prompt_BxP, cache)
    # The last token is drawn after the scan: nothing needs to be read after it.
    keys = jax.random.split(rng, max_new)
    (logits_BxV, _), tokens_NxB = jax.lax.scan(step, (logits_BxV, cache), keys[:-1])
    last_B = sample(logits_BxV, keys[-1], temperature, top_k)
    return jnp.concatenate([prompt_BxP, tokens_NxB.T, last_B[:, None]], axis=1)


def sample(logits_BxV: Array, rng: Array, temperature: float, top_k: int | None) -> Array:
    """One token a row, int32 [B]; see `generate`."""
    if temperature == 0:
        return jnp.argmax(logits_BxV, axis=-1).astype(jnp.int32)
    if top_k is not None:
        least_Bx1 = jax.lax.top_k(logits_BxV, top_k)[0][:, -1:]
        logits_BxV = jnp.where(logits_BxV < least_Bx1, -jnp.inf, logits_BxV)
    return jax.random.categorical(rng, logits_BxV / temperature, axis=-1).astype(jnp.int32)
