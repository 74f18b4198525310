"""From the logits of places to texts: the best path, or a search over prefixes.

Takes a batch of sounds; gives tokens and their log-probability. CTC (Graves et al. 2006): a text is
written by every path of places that is it once repetitions and blanks are taken out.
"""

import functools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from scaling.families import build

Array = jax.Array
_NEVER = -1e30  # logarithm of a probability that is none; finite, so that differences are


@functools.partial(jax.jit, static_argnames=("config", "max_new", "beams"))
def transcribe(
    config: Any, params: Any, batch: dict[str, Array], max_new: int, beams: int = 1
) -> tuple[Array, Array]:
    """(tokens int32 [B, max_new], filled up with the blank, their log-probability float32 [B]).

    One beam: the most likely path, and its own probability; more: `prefix_search`.
    """
    outputs = cast(Any, build(config).apply({"params": params}, batch))
    log_p_BxLxV = jax.nn.log_softmax(outputs["frame_logits"].astype(jnp.float32))
    search = best_path if beams == 1 else functools.partial(prefix_search, beams=beams)
    return search(log_p_BxLxV, outputs["frames"], max_new)


def best_path(log_p_BxLxV: Array, frames_B: Array, max_new: int) -> tuple[Array, Array]:
    """The most likely token at each place, without repetitions and blanks."""
    length, vocab = log_p_BxLxV.shape[1:]
    blank = vocab - 1
    there_BxL = jnp.arange(length)[None] < frames_B[:, None]
    best_BxL = jnp.where(there_BxL, jnp.argmax(log_p_BxLxV, axis=-1).astype(jnp.int32), blank)
    before_BxL = jnp.pad(best_BxL[:, :-1], ((0, 0), (1, 0)), constant_values=blank)
    written_BxL = (best_BxL != blank) & (best_BxL != before_BxL)
    # Each goes to its own place; what is beyond the room, or nothing, beyond the end, and away.
    place_BxL = jnp.where(written_BxL, jnp.cumsum(written_BxL, axis=1) - 1, max_new)
    empty_BxN = jnp.full((len(best_BxL), max_new), blank, jnp.int32)
    put = jax.vmap(lambda row, place, token: row.at[place].set(token, mode="drop"))
    score_B = jnp.where(there_BxL, log_p_BxLxV.max(axis=-1), 0).sum(axis=1)
    return put(empty_BxN, place_BxL, best_BxL), score_B


class _Prefixes(NamedTuple):
    """Of one row, K texts that are followed."""

    tokens_KxN: Array
    length_K: Array
    blank_K: Array  # log-probability of the paths so far that write it and end in a blank
    token_K: Array  # likewise, that end in its last token


def prefix_search(
    log_p_BxLxV: Array, frames_B: Array, max_new: int, beams: int
) -> tuple[Array, Array]:
    """The text whose paths together are the most likely, among `beams` prefixes that are followed
    (Graves 2012, Supervised Sequence Labelling, section 7.5; Hannun et al. 2014, arXiv 1408.2873).
    """
    return jax.vmap(functools.partial(_search, max_new=max_new, beams=beams))(log_p_BxLxV, frames_B)


def _search(log_p_LxV: Array, frames: Array, max_new: int, beams: int) -> tuple[Array, Array]:
    vocab = log_p_LxV.shape[1]
    blank = vocab - 1
    number_K, place_N = jnp.arange(beams), jnp.arange(max_new)
    start = _Prefixes(
        jnp.full((beams, max_new), blank, jnp.int32),
        jnp.zeros(beams, jnp.int32),
        jnp.where(number_K == 0, 0.0, _NEVER),
        jnp.full(beams, _NEVER),
    )

    def step(at: _Prefixes, given: tuple[Array, Array]) -> tuple[_Prefixes, None]:
        log_p_V, there = given
        has_last_K = at.length_K > 0
        last_place_KxN = place_N[None] == at.length_K[:, None] - 1
        last_K = jnp.where(last_place_KxN, at.tokens_KxN, 0).sum(axis=1)
        both_K = jnp.logaddexp(at.blank_K, at.token_K)
        stays_blank_K = both_K + log_p_V[blank]
        stays_token_K = jnp.where(has_last_K, at.token_K + log_p_V[last_K], _NEVER)
        # Another token, or the last one again behind a blank.
        repeats_KxV = has_last_K[:, None] & (jnp.arange(vocab)[None] == last_K[:, None])
        longer_KxV = jnp.where(repeats_KxV, at.blank_K[:, None], both_K[:, None]) + log_p_V[None]
        full_K = at.length_K == max_new
        longer_KxV = longer_KxV.at[:, blank].set(_NEVER)
        longer_KxV = jnp.where(full_K[:, None], _NEVER, longer_KxV)
        # Prefix j that is prefix k and one more token: both ways to it are one text.
        shorter_KxN = jnp.where(last_place_KxN, blank, at.tokens_KxN)
        follows_JxK = (shorter_KxN[:, None] == at.tokens_KxN[None]).all(axis=-1)
        follows_JxK &= at.length_K[:, None] == at.length_K[None] + 1
        joins_JxK = jnp.where(follows_JxK, longer_KxV[:, last_K].T, _NEVER)
        stays_token_K = jnp.logaddexp(stays_token_K, jax.nn.logsumexp(joins_JxK, axis=1))
        taken_KxV = (
            follows_JxK.T[:, :, None] & (last_K[None, :, None] == jnp.arange(vocab)[None, None])
        ).any(axis=1)
        longer_KxV = jnp.where(taken_KxV, _NEVER, longer_KxV)

        stays_K = jnp.logaddexp(stays_blank_K, stays_token_K)
        score = jnp.concatenate([stays_K, longer_KxV.reshape(-1)])
        _, chosen_K = jax.lax.top_k(score, beams)
        is_new_K = chosen_K >= beams
        from_K = jnp.where(is_new_K, (chosen_K - beams) // vocab, chosen_K)
        new_K = ((chosen_K - beams) % vocab).astype(jnp.int32)
        tokens_KxN, length_K = at.tokens_KxN[from_K], at.length_K[from_K]
        written_KxN = is_new_K[:, None] & (place_N[None] == length_K[:, None])
        found = _Prefixes(
            jnp.where(written_KxN, new_K[:, None], tokens_KxN),
            length_K + is_new_K,
            jnp.where(is_new_K, _NEVER, stays_blank_K[from_K]),
            jnp.where(is_new_K, score[chosen_K], stays_token_K[from_K]),
        )
        return jax.tree.map(lambda new, old: jnp.where(there, new, old), found, at), None

    there_L = jnp.arange(len(log_p_LxV)) < frames
    end, _ = jax.lax.scan(step, start, (log_p_LxV, there_L))
    score_K = jnp.logaddexp(end.blank_K, end.token_K)
    best = jnp.argmax(score_K)
    return end.tokens_KxN[best], score_K[best]
