"""Continues a prompt, one token at a time; what is kept is the state of each layer.

As `families/transformer/generate.py`, for the LSTM.
"""

import functools
from typing import Any, cast

import jax

from scaling.families import build
from scaling.families.decoding import check, decode
from scaling.families.lstm import LSTMConfig
from scaling.models.recurrence import zero_state
from scaling.objectives.next_token.cross_entropy import logits

Array = jax.Array


@functools.partial(jax.jit, static_argnames=("config", "max_new", "temperature", "top_k"))
def generate(
    config: LSTMConfig,
    params: Any,
    prompt_BxP: Array,
    max_new: int,
    rng: Array,
    temperature: float = 1.0,
    top_k: int | None = None,
) -> Array:
    """Tokens int32 [B, P + max_new]; arguments and errors are those of the transformer's."""
    check(prompt_BxP, max_new, temperature, top_k, config.vocab)
    model = build(config)

    def read(tokens_BxL: Array, cache: Any) -> tuple[Array, Any]:
        outputs = model.apply({"params": params}, {"tokens": tokens_BxL}, cache)
        found = cast(dict[str, Any], outputs)
        found["hidden"] = found["hidden"][:, -1:]
        return logits(found)[:, 0], found["cache"]

    state = zero_state(len(prompt_BxP), config.width, config.dtype)
    return decode(read, [state] * config.depth, prompt_BxP, max_new, rng, temperature, top_k)
