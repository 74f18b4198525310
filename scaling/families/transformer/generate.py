"""Continues a prompt, one token at a time, with a cache of keys and values.

Takes a resolved model config, its parameters and prompt tokens; gives the prompt with the new
tokens behind it. The prompt is read in one pass, the rest in a `lax.scan` of one-token steps, all
in one compiled program. `launch.py generate` calls it.
"""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp

from scaling.families import build
from scaling.families.decoding import check, decode
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
    check(prompt_BxP, max_new, temperature, top_k, config.vocab)
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

    cache = init_cache(config, batch_size, prompt_length + max_new)
    return decode(read, cache, prompt_BxP, max_new, rng, temperature, top_k)
