"""Continues prompts, one token at a time; what is kept is the state of each layer.

As `families/transformer/generate.py`, for the LSTM.
"""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp

from scaling.families import build, decoding
from scaling.families.lstm import LSTMConfig
from scaling.models.recurrence import zero_state
from scaling.objectives.next_token.cross_entropy import logits

Array = jax.Array


def reader(
    config: LSTMConfig, params: Any, before_B: Array, slots: int
) -> tuple[decoding.Read, Any]:
    """See `decoding.Reader`: a document begins behind what stands before a prompt, with a state of
    zero.
    """
    del slots
    model = build(config)

    def read(tokens_BxL: Array, cache: Any) -> tuple[Array, Any]:
        layers, length = cache
        slots_BxL = length + jnp.arange(tokens_BxL.shape[1])[None]
        segments_BxL = (slots_BxL >= before_B[:, None]).astype(jnp.int32)
        batch = {"tokens": tokens_BxL, "segment_ids": segments_BxL}
        outputs = cast(dict[str, Any], model.apply({"params": params}, batch, layers))
        outputs["hidden"] = outputs["hidden"][:, -1:]
        return logits(outputs)[:, 0], (outputs["cache"], length + tokens_BxL.shape[1])

    state = zero_state(len(before_B), config.width, config.dtype)
    return read, ([state] * config.depth, jnp.zeros((), jnp.int32))


generate = functools.partial(decoding.generate, reader)
