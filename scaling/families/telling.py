"""Continues texts that each ask for something else, and tells how likely the tokens are.

The loop is that of `decoding.py`; a row is drawn by its own temperature and key. Called by
`scaling/serving`.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling.families.decoding import (
    DRAWN,
    PIECE,
    Array,
    Carry,
    Reader,
    advance,
    filled,
    nucleus,
    started,
)

_SIZES = (1, 4, PIECE)  # of pieces; the last may make more than is asked for


class Settings(NamedTuple):
    """How the next token of each row is drawn: arrays, so that one program does for all."""

    temperature_B: Any  # float32; 0: the most likely token
    top_p_B: Any  # float32 above 0; 1: among all tokens
    key_B: Array  # JAX keys; a new token is drawn by the one that its number makes of it


class Room(NamedTuple):
    """The shapes that a batch of texts is continued in."""

    prompt: int  # slots that the texts are filled up to, at their beginning
    slots: int  # of the cache, `prompt` + `most` - 1 at least
    most: int  # new tokens that are asked for
    known: int  # of the likeliest tokens, how many are told


class Told(NamedTuple):
    """What is told of new tokens; log-probabilities are the model's, whatever the temperature."""

    token: Any  # int32 [B, N]
    log_probability: Any  # float32 [B, N]
    best: Any  # int32 [B, N, K], the likeliest tokens, the first of them first
    best_log_probability: Any  # float32 [B, N, K]


def tell(
    reader: Reader,
    config: Any,
    params: Any,
    prompts: list[list[int]],
    settings: Settings,
    room: Room,
) -> Iterator[Told]:
    """The new tokens of each prompt, some at a time, `room.most` in all, or a few more. What is
    drawn for a row depends on its own key alone, not on the others or on the shapes.
    """
    before_B, prompt_BxP = filled(prompts, room.prompt)
    model = (reader, config, room.slots)
    drawn, known = bool(np.any(np.asarray(settings.temperature_B) > 0)), room.known
    carry, first = started(*model, DRAWN, params, before_B, prompt_BxP), 0
    while first < room.most:
        size = next((n for n in _SIZES if n >= room.most - first), PIECE)
        steps = np.arange(first, first + size, dtype=np.int32)
        carry, told = _told(*model, drawn, known, params, before_B, carry, steps, settings)
        first += size
        yield told


@functools.partial(jax.jit, static_argnums=range(5))
def _told(
    reader: Reader,
    config: Any,
    slots: int,
    drawn: bool,
    known: int,
    params: Any,
    before_B: Array,
    carry: Carry,
    steps_N: Array,
    settings: Settings,
) -> tuple[Carry, Told]:
    read, _ = reader(config, params, before_B, slots)

    def pick(carry: Carry, step: Array) -> tuple[Array, Told]:
        token_B = jnp.argmax(carry.logits_BxV, axis=-1).astype(jnp.int32)
        if drawn:
            token_B = _drawn(carry.logits_BxV, step, settings, token_B)
        log_p_BxV = jax.nn.log_softmax(carry.logits_BxV)
        log_p_B = jnp.take_along_axis(log_p_BxV, token_B[:, None], axis=-1)[:, 0]
        best, best_BxK = jax.lax.top_k(log_p_BxV, min(known, log_p_BxV.shape[-1]))
        return token_B, Told(token_B, log_p_B, best_BxK, best)

    carry, told = advance(read, carry, steps_N, pick)
    return carry, Told(*(jnp.swapaxes(x, 0, 1) for x in told))


def _drawn(logits_BxV: Array, step: Array, settings: Settings, likeliest_B: Array) -> Array:
    """A token a row, by its own temperature, share and key."""
    temperature_Bx1, top_p_Bx1 = settings.temperature_B[:, None], settings.top_p_B[:, None]
    is_drawn_Bx1 = temperature_Bx1 > 0
    logits_BxV = logits_BxV / jnp.where(is_drawn_Bx1, temperature_Bx1, 1)
    among_BxV = (top_p_Bx1 >= 1) | nucleus(logits_BxV, top_p_Bx1)
    keys_B = jax.vmap(jax.random.fold_in, in_axes=(0, None))(settings.key_B, step)
    drawn_B = jax.vmap(jax.random.categorical)(keys_B, jnp.where(among_BxV, logits_BxV, -jnp.inf))
    return jnp.where(is_drawn_Bx1[:, 0], drawn_B, likeliest_B).astype(jnp.int32)
