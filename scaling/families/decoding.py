"""The loop that continues sequences, one token after the other, of any family with a cache.

Takes what a family reads tokens with, and prompts; gives the prompts with the new tokens behind
them, all in one program (`generate`) or piece after piece (`stream`). Called by the `generate` of
families and by `scaling/serving`; `telling.py` has the same for rows that ask for different things.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling.errors import UserError

Array = jax.Array
Read = Callable[[Array, Any], tuple[Array, Any]]  # (tokens [B, L], cache) -> (logits [B, V], cache)
# (config, parameters, slots that are filled up before each prompt [B], slots) -> (read, the cache
# before the first token)
Reader = Callable[[Any, Any, Array, int], tuple[Read, Any]]

PIECE = 16  # tokens that are made at once
_SIZES = (
    1,
    4,
    PIECE,
)  # of the pieces of `tell`, of which the last may make more than is asked for


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen."""

    temperature: float = 1.0  # logits are divided by it; 0: the most likely token
    top_k: int | None = None  # among the k most likely tokens only; None: all
    top_p: float | None = None  # among the most likely tokens that together have this probability
    # Logits of tokens that the text has already are divided by it where they are positive, else
    # multiplied (Keskar et al. 2019, CTRL, arXiv 1909.05858, section 4.1); 1: they stay
    repetition_penalty: float = 1.0


DRAWN, GREEDY = Sampling(), Sampling(temperature=0.0)


class Carry(NamedTuple):
    """A text as far as it was read."""

    logits_BxV: Array  # of the token behind it
    cache: Any
    seen_BxV: Array | None  # bool, the tokens in it; None: nobody asks


# (a text as far as it was read, what this token is drawn with) -> the token [B], what is told of it
Pick = Callable[[Carry, Array], tuple[Array, Any]]


def check(prompt_BxP: Array, max_new: int, sampling: Sampling, vocab: int | None) -> None:
    """Raises UserError for an empty prompt, a number of tokens below 1, or a sampling that makes no
    distribution.
    """
    if prompt_BxP.shape[1] < 1:
        raise UserError("generate: the prompt is empty; give at least one token")
    if max_new < 1:
        raise UserError(f"generate: max_new={max_new} must be at least 1")
    if sampling.temperature < 0:
        raise UserError(f"generate: temperature={sampling.temperature} must not be negative")
    top_k, top_p = sampling.top_k, sampling.top_p
    if top_k is not None and not 1 <= top_k <= (vocab or top_k):
        raise UserError(f"generate: top_k={top_k} must lie between 1 and {vocab} tokens")
    if top_p is not None and not 0 < top_p <= 1:
        raise UserError(f"generate: top_p={top_p} must be above 0 and at most 1")
    if sampling.repetition_penalty <= 0:
        raise UserError(
            f"generate: repetition_penalty={sampling.repetition_penalty} must be positive"
        )


def generate(
    reader: Reader,
    config: Any,
    params: Any,
    prompt_BxP: Array,
    max_new: int,
    rng: Array,
    sampling: Sampling = DRAWN,
) -> Array:
    """Tokens int32 [B, P + max_new]: the prompts and what the model continues them with.

    Args:
      config: resolved; decides whether `params` are scanned or unrolled.
      prompt_BxP: int32, P >= 1; every row is one document from its beginning.
      max_new: tokens to add, at least 1.
      rng: a JAX key, or one for each row [B], which then draws by itself.

    Raises UserError as `check`.
    """
    check(prompt_BxP, max_new, sampling, config.vocab)
    return _generate(reader, config, params, prompt_BxP, rng, max_new, sampling)


@functools.partial(jax.jit, static_argnames=("reader", "config", "max_new", "sampling"))
def _generate(
    reader: Reader,
    config: Any,
    params: Any,
    prompt_BxP: Array,
    rng: Array,
    max_new: int,
    sampling: Sampling,
) -> Array:
    before_B = jnp.zeros(len(prompt_BxP), jnp.int32)
    read, cache = reader(config, params, before_B, prompt_BxP.shape[1] + max_new)
    carry = _begin(read, cache, prompt_BxP, before_B, sampling)
    keys = _split(rng, max_new)
    # The last token is drawn after the loop: nothing needs to be read after it.
    carry, tokens_NxB = advance(read, carry, keys[:-1], _alike(sampling))
    last_B = sample(carry.logits_BxV, keys[-1], sampling, carry.seen_BxV)
    return jnp.concatenate([prompt_BxP, tokens_NxB.T, last_B[:, None]], axis=1)


def stream(
    reader: Reader,
    config: Any,
    params: Any,
    prompts: list[list[int]],
    max_new: int,
    rng: Array,
    sampling: Sampling = DRAWN,
) -> Iterator[np.ndarray]:
    """The new tokens of each prompt, some at a time: int32 [B, n], `max_new` in all; those of one
    prompt are the ones that `generate` gives. Whoever reads them may stop.

    Prompts may be of different lengths: shorter ones stand behind slots that nothing sees.

    Raises UserError as `check`.
    """
    longest = max(map(len, prompts))
    before_B, prompt_BxP = filled(prompts, longest)
    shortest = prompt_BxP[:, : min(map(len, prompts))]
    check(jnp.asarray(shortest), max_new, sampling, config.vocab)
    keys = jax.random.split(rng, max_new)
    slots = longest + max_new
    model = (reader, config, slots, sampling, params, before_B)
    carry = started(*model, prompt_BxP)
    for first in range(0, max_new, PIECE):
        carry, tokens_BxN = _piece(*model, carry, keys[first : first + PIECE])
        yield np.asarray(tokens_BxN)


@functools.partial(jax.jit, static_argnums=range(4))
def started(
    reader: Reader,
    config: Any,
    slots: int,
    sampling: Sampling,
    params: Any,
    before_B: Array,
    prompt_BxP: Array,
) -> Carry:
    """The prompts as they were read. Compiled once for each shape."""
    read, cache = reader(config, params, before_B, slots)
    return _begin(read, cache, prompt_BxP, before_B, sampling)


@functools.partial(jax.jit, static_argnums=range(4))
def _piece(
    reader: Reader,
    config: Any,
    slots: int,
    sampling: Sampling,
    params: Any,
    before_B: Array,
    carry: Carry,
    keys: Array,
) -> tuple[Carry, Array]:
    read, _ = reader(config, params, before_B, slots)
    carry, tokens_NxB = advance(read, carry, keys, _alike(sampling))
    return carry, tokens_NxB.T


def _split(rng: Array, count: int) -> Array:
    """Keys [count] of one, or [count, B] of one for each row."""
    if rng.ndim == 0:
        return jax.random.split(rng, count)
    return jax.vmap(lambda key: jax.random.split(key, count), out_axes=1)(rng)


def _begin(read: Read, cache: Any, prompt_BxP: Array, before_B: Array, sampling: Sampling) -> Carry:
    logits_BxV, cache = read(prompt_BxP, cache)
    if sampling.repetition_penalty == 1:
        return Carry(logits_BxV, cache, None)
    there_BxP = jnp.arange(prompt_BxP.shape[1])[None] >= before_B[:, None]
    rows_Bx1 = jnp.arange(len(prompt_BxP))[:, None]
    seen_BxV = jnp.zeros(logits_BxV.shape, bool).at[rows_Bx1, prompt_BxP].max(there_BxP)
    return Carry(logits_BxV, cache, seen_BxV)


def filled(prompts: list[list[int]], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Slots before each prompt [B], and the prompts behind them [B, length]."""
    before_B = np.array([length - len(one) for one in prompts], np.int32)
    prompt_BxP = np.zeros((len(prompts), length), np.int32)
    for row, one in zip(prompt_BxP, prompts, strict=True):
        row[length - len(one) :] = one
    return before_B, prompt_BxP


def advance(read: Read, carry: Carry, draws: Array, pick: Pick) -> tuple[Carry, Any]:
    """The text with a token more for each of `draws`, and what is told of these, [N, ...]."""

    def step(carry: Carry, draw: Array) -> tuple[Carry, Any]:
        token_B, told = pick(carry, draw)
        seen_BxV = carry.seen_BxV
        if seen_BxV is not None:
            seen_BxV |= jnp.arange(seen_BxV.shape[1])[None] == token_B[:, None]
        return Carry(*read(token_B[:, None], carry.cache), seen_BxV), told

    return jax.lax.scan(step, carry, draws)


def _alike(sampling: Sampling) -> Pick:
    """All rows by one key; what is told are the tokens [B]."""

    def pick(carry: Carry, key: Array) -> tuple[Array, Array]:
        token_B = sample(carry.logits_BxV, key, sampling, carry.seen_BxV)
        return token_B, token_B

    return pick


def sample(
    logits_BxV: Array, rng: Array, sampling: Sampling, seen_BxV: Array | None = None
) -> Array:
    """One token a row, int32 [B]: the most likely one at temperature 0, else drawn, by a key or by
    one for each row.
    """
    penalty = sampling.repetition_penalty
    if seen_BxV is not None:
        less_BxV = jnp.where(logits_BxV > 0, logits_BxV / penalty, logits_BxV * penalty)
        logits_BxV = jnp.where(seen_BxV, less_BxV, logits_BxV)
    if sampling.temperature == 0:
        return jnp.argmax(logits_BxV, axis=-1).astype(jnp.int32)
    if sampling.top_k is not None:
        least_Bx1 = jax.lax.top_k(logits_BxV, sampling.top_k)[0][:, -1:]
        logits_BxV = jnp.where(logits_BxV < least_Bx1, -jnp.inf, logits_BxV)
    logits_BxV /= sampling.temperature
    if sampling.top_p is not None:
        logits_BxV = jnp.where(nucleus(logits_BxV, sampling.top_p), logits_BxV, -jnp.inf)
    draw = jax.random.categorical if rng.ndim == 0 else jax.vmap(jax.random.categorical)
    return draw(rng, logits_BxV).astype(jnp.int32)


def nucleus(logits_BxV: Array, top_p: float | Array) -> Array:
    """bool [B, V]: the fewest tokens, the most likely first, that together have a probability of
    `top_p` at least, which may be [B, 1] (Holtzman et al. 2020, arXiv 1904.09751, section 3.1).
    """
    order_BxV = jnp.argsort(-logits_BxV, axis=-1)
    p_BxV = jax.nn.softmax(jnp.take_along_axis(logits_BxV, order_BxV, axis=-1))
    before_BxV = jnp.cumsum(p_BxV, axis=-1) - p_BxV
    rank_BxV = jnp.argsort(order_BxV, axis=-1)
    return jnp.take_along_axis(before_BxV < top_p, rank_BxV, axis=-1)


class Beam(NamedTuple):
    """The most likely text of each row that was found."""

    tokens: Array  # int32 [B, N], filled up with the separator
    log_probability: Array  # float32 [B], of the tokens up to the first separator, that included


def beam_search(
    read: Callable[[Array, Any], tuple[Array, Any]],
    cache: Any,
    rows: int,
    max_new: int,
    separator: int,
    beams: int,
    begins: int | None = None,
) -> Beam:
    """The text of the largest log-probability among `beams` that are followed at once (Lowerre
    1976). A text that has ended stays among them for as long as it is likely enough; no length is
    preferred. One beam is greedy decoding.

    Args:
      read: (tokens [rows], cache) -> (logits [rows, V] after them, the cache with them).
      cache: before the first token; arrays whose first axis is `rows`, and scalars.
      separator: ends a text.
      begins: begins it; None: the separator does.
    """

    def repeated(x: Array) -> Array:
        return jnp.repeat(x, beams, axis=0) if jnp.ndim(x) else x

    def step(carry: Any, place: Array) -> tuple[Any, None]:
        tokens_RxKxN, score_RxK, ended_RxK, last_RxK, cache = carry
        logits_BxV, cache = read(last_RxK.reshape(-1), cache)
        log_p_RxKxV = jax.nn.log_softmax(logits_BxV.astype(jnp.float32)).reshape(rows, beams, -1)
        vocab = log_p_RxKxV.shape[-1]
        # A text that has ended goes on with separators only, at no cost.
        stays_V = jnp.where(jnp.arange(vocab) == separator, 0.0, -jnp.inf)
        log_p_RxKxV = jnp.where(ended_RxK[:, :, None], stays_V[None, None], log_p_RxKxV)
        total_RxKV = (score_RxK[:, :, None] + log_p_RxKxV).reshape(rows, -1)
        score_RxK, chosen_RxK = jax.lax.top_k(total_RxKV, beams)
        beam_RxK, token_RxK = chosen_RxK // vocab, (chosen_RxK % vocab).astype(jnp.int32)
        tokens_RxKxN = jnp.take_along_axis(tokens_RxKxN, beam_RxK[:, :, None], axis=1)
        tokens_RxKxN = jax.lax.dynamic_update_slice_in_dim(
            tokens_RxKxN, token_RxK[:, :, None], place, axis=2
        )
        ended_RxK = jnp.take_along_axis(ended_RxK, beam_RxK, axis=1) | (token_RxK == separator)
        from_B = (jnp.arange(rows)[:, None] * beams + beam_RxK).reshape(-1)
        cache = jax.tree.map(lambda x: x[from_B] if jnp.ndim(x) else x, cache)
        return (tokens_RxKxN, score_RxK, ended_RxK, token_RxK, cache), None

    begun = (
        jnp.full((rows, beams, max_new), separator, jnp.int32),
        # One text to begin with: the others would be copies of it.
        jnp.where(jnp.arange(beams) == 0, 0.0, -jnp.inf)[None].repeat(rows, axis=0),
        jnp.zeros((rows, beams), bool),
        jnp.full((rows, beams), separator if begins is None else begins, jnp.int32),
        jax.tree.map(repeated, cache),
    )
    (tokens_RxKxN, score_RxK, *_), _ = jax.lax.scan(step, begun, jnp.arange(max_new))
    return Beam(tokens_RxKxN[:, 0], score_RxK[:, 0])


def log_mean(logits: Array) -> Array:
    """Of logits [M, ..., V] of M models the logarithm of their mean probability, [..., V]."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    return jax.nn.logsumexp(log_p, axis=0) - jnp.log(len(logits))
