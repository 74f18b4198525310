"""Writing the target of a source: greedily, or the best of several beams."""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp

from scaling.families import build
from scaling.families.decoding import beam_search, log_mean
from scaling.families.encoder_decoder import EncoderDecoderConfig
from scaling.objectives.next_token.cross_entropy import logits

Array = jax.Array


@functools.partial(jax.jit, static_argnames=("config", "max_new", "separator", "beams", "begins"))
def translate(
    config: EncoderDecoderConfig,
    params: Any,
    source_BxS: Array,
    source_segments_BxS: Array,
    max_new: int,
    separator: int,
    beams: int = 1,
    begins: int | None = None,
) -> tuple[Array, Array]:
    """(tokens int32 [B, max_new], the log-probability of all up to the separator float32 [B]).

    Args:
      config: resolved.
      params: of a model, or a tuple of those of several, whose probabilities are averaged token by
        token (as `scaling/train/ensemble.py` averages them).
      source_segments_BxS: 1 where the source has a token, 0 where it is filled up.
      max_new: tokens, the separator behind the text included; a row that ends before is filled up
        with separators.
      separator: the token behind a text.
      beams: texts that are followed at once; 1: the most likely token each time.
      begins: the token before a text; None: the separator.
    """
    model, members = build(config), params if isinstance(params, tuple) else (params,)

    def call(params: Any, *args: Any) -> dict[str, Any]:
        return cast(dict[str, Any], model.apply({"params": params}, *args))

    def read(tokens_B: Array, caches: Any) -> tuple[Array, Any]:
        told = {"tokens": tokens_B[:, None]}
        each = [call(one, told, cache) for one, cache in zip(members, caches, strict=True)]
        told_MxBxV = jnp.stack([logits(outputs)[:, 0] for outputs in each])
        # Of one model its logits, whose normaliser is its own.
        found = told_MxBxV[0] if len(each) == 1 else log_mean(told_MxBxV)
        return found, [one["cache"] for one in each]

    source = {"source": source_BxS, "source_segments": source_segments_BxS}
    cache = [call(one, source, None, max_new)["cache"] for one in members]
    found = beam_search(read, cache, len(source_BxS), max_new, separator, beams, begins)
    return found.tokens, found.log_probability
