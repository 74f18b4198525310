"""Continues prompts, one token at a time, with a cache of keys and values.

The prompt is read in one pass, the rest in one-token steps (`families/decoding.py`). `launch.py
generate` calls it, and the evaluation of continuations.
"""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp

from scaling.families import build, decoding
from scaling.families.transformer.fields import TransformerConfig
from scaling.families.transformer.network import Params, init_cache
from scaling.objectives.next_token.cross_entropy import logits

Array = jax.Array


def reader(
    config: TransformerConfig, params: Params, before_B: Array, slots: int
) -> tuple[decoding.Read, Any]:
    """See `decoding.Reader`: what stands before a prompt is a segment of its own, so that nothing
    sees it, and positions begin behind it.
    """
    model = build(config)

    def read(tokens_BxL: Array, cache: dict) -> tuple[Array, dict]:
        slots_BxL = cache["length"] + jnp.arange(tokens_BxL.shape[1])[None] - before_B[:, None]
        batch = {
            "tokens": tokens_BxL,
            "positions": jnp.maximum(slots_BxL, 0),
            "segment_ids": (slots_BxL >= 0).astype(jnp.int32),
        }
        outputs = cast(dict[str, Any], model.apply({"params": params}, batch, cache))
        outputs["hidden"] = outputs["hidden"][:, -1:]
        return logits(outputs)[:, 0], outputs["cache"]

    return read, init_cache(config, len(before_B), slots)


generate = functools.partial(decoding.generate, reader)
