"""Writing the target of a source: greedily, or the best of several beams."""

import functools
from typing import Any, cast

import jax

from scaling.families import build
from scaling.families.decoding import beam_search
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
      source_segments_BxS: 1 where the source has a token, 0 where it is filled up.
      max_new: tokens, the separator behind the text included; a row that ends before is filled up
        with separators.
      separator: the token behind a text.
      beams: texts that are followed at once; 1: the most likely token each time.
      begins: the token before a text; None: the separator.
    """
    model = build(config)

    def call(*args: Any) -> dict[str, Any]:
        return cast(dict[str, Any], model.apply({"params": params}, *args))

    def read(tokens_B: Array, cache: Any) -> tuple[Array, Any]:
        outputs = call({"tokens": tokens_B[:, None]}, cache)
        return logits(outputs)[:, 0], outputs["cache"]

    source = {"source": source_BxS, "source_segments": source_segments_BxS}
    cache = call(source, None, max_new)["cache"]
    found = beam_search(read, cache, len(source_BxS), max_new, separator, beams, begins)
    return found.tokens, found.log_probability
