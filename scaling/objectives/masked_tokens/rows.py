"""Hides some tokens of every row and measures how well they are found.

Takes a model as a function, a batch with tokens int32 [B, L] and loss_mask [B, L], and a key for
each row; gives `Rows`, float32. Which tokens are hidden is a function of the row's key: another
choice at each step of training, the same one in every evaluation.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scaling.errors import ConfigError
from scaling.objectives.masked_tokens import MaskedTokensConfig, count
from scaling.objectives.next_token.cross_entropy import cross_entropy
from scaling.objectives.objective import Array, Batch, Loss, Model, Rows, Sum

_BYTES = 256


class Hidden(NamedTuple):
    """A row with some of its tokens hidden."""

    tokens_L: Array  # int32, as the model sees them
    places_M: Array  # int32, of those that are to be found
    weight_M: Array  # float32, 0 where there is none


def rows(config: MaskedTokensConfig) -> Loss:
    """Cross-entropy of the hidden tokens."""

    def rows_by(model: Model, batch: Batch, keys_B: Array, hparams: Mapping[str, Any]) -> Rows:
        del hparams
        return masked(config, model, batch, keys_B)[0]

    return Loss(None, rows_by=rows_by)


def masked(
    config: MaskedTokensConfig, model: Model, batch: Batch, keys_B: Array
) -> tuple[Rows, Mapping[str, Any]]:
    """Rows of the hidden tokens, and all that the model gave of what was left."""
    vocab = jax.eval_shape(model, batch)["table"].shape[0] - (config.mask_token is None)
    if config.mask_token is not None and config.mask_token >= vocab:
        raise ConfigError(
            f"objective.mask_token={config.mask_token} is none of the {vocab} tokens; give another"
        )
    hide = functools.partial(hidden, config, vocab)
    seen = jax.vmap(hide)(keys_B, batch["tokens"], batch["loss_mask"] > 0)
    outputs = model({**batch, "tokens": seen.tokens_L, "places": seen.places_M})
    targets_BxM = jnp.take_along_axis(batch["tokens"], seen.places_M, axis=1)
    with jax.named_scope("head"):
        scores = cross_entropy(outputs["masked"], outputs["table"], targets_BxM)
    weight_BxM = seen.weight_M
    loss_B = jnp.sum((scores.log_z - scores.target) * weight_BxM, axis=1)
    right_B = jnp.sum(scores.correct * weight_BxM, axis=1)
    count_B = weight_BxM.sum(axis=1)
    means = {"loss": Sum(loss_B, count_B), "accuracy": Sum(right_B, count_B)}
    return Rows(loss_B, {}, means), outputs


def hidden(
    config: MaskedTokensConfig, vocab: int, key: Array, tokens_L: Array, counts_L: Array
) -> Hidden:
    """Hides `count(share, L)` of the tokens that count, each of them equally likely; of whole words
    as many, drawn one after the other, as fit into that number.
    """
    which, how, other = jax.random.split(key, 3)
    most = count(config.share, len(tokens_L))
    score_L = jax.random.uniform(which, tokens_L.shape)
    if config.whole_words:
        score_L = score_L[beginnings(tokens_L)]
    score_L = jnp.where(counts_L, score_L, -1.0)
    score_M, places_M = jax.lax.top_k(score_L, most)
    weight_M = score_M >= 0
    if config.whole_words and most < len(tokens_L):
        # The places of a word have one score: that of the first that no longer fits is cut off.
        weight_M &= score_M > jax.lax.top_k(score_L, most + 1)[0][most]
    draw_M = jax.random.uniform(how, (most,))
    other_M = jax.random.randint(other, (most,), 0, vocab)
    own_M = tokens_L[places_M]
    told_M = jnp.where(draw_M < config.masked + config.random, other_M, own_M)
    mask = vocab if config.mask_token is None else config.mask_token
    told_M = jnp.where(draw_M < config.masked, mask, told_M)
    told_M = jnp.where(weight_M, told_M, own_M).astype(tokens_L.dtype)
    tokens_L = tokens_L.at[places_M].set(told_M)
    return Hidden(tokens_L, places_M, weight_M.astype(jnp.float32))


def beginnings(tokens_L: Array) -> Array:
    """int32 [L]: where the word begins that a byte is of; of what is no letter, digit or
    underscore, the byte itself.
    """
    table = [chr(i).isalnum() or i == ord("_") or i >= 128 for i in range(_BYTES)]
    inside_L = jnp.array(table)[jnp.minimum(tokens_L, _BYTES - 1)] & (tokens_L < _BYTES)
    goes_on_L = inside_L & jnp.roll(inside_L, 1)
    places_L = jnp.arange(len(tokens_L))
    return jax.lax.cummax(jnp.where(goes_on_L & (places_L > 0), 0, places_L))
