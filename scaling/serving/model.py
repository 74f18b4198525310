"""A run that continues and scores rows of tokens, each as it asks, several at once.

Takes a run directory with a checkpoint; compiles few shapes: rows and lengths are filled up to
powers of two. Called by `batching.py`, on one thread.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling import families, files
from scaling.config import choices, passes
from scaling.errors import ConfigError, UserError
from scaling.families import telling
from scaling.families.telling import Told
from scaling.records import RunDirectory
from scaling.train.opened import newest

KNOWN = 5  # of the likeliest tokens at a place, how many are told
SEPARATOR = "<|separator|>"  # what that of any run is called
_SHORTEST = 16  # tokens that a row is filled up to at least
_COLDEST = 1e-4  # below it logits over the temperature leave float32
_LOGITS = 2**26  # numbers that are made at once when texts are scored: 256 MiB


@dataclass(frozen=True)
class Row:
    """A text and how it is to be continued."""

    tokens: Sequence[int]  # at least one; they begin with the separator
    most: int  # new tokens at most
    temperature: float = 1.0  # 0: the most likely token
    top_p: float = 1.0  # among the most likely tokens that together have this probability
    seed: int = 0
    number: int = 0  # of several continuations of one text with one seed


class Scores(NamedTuple):
    """Of each token of a text but the first: log-probabilities, and the likeliest there."""

    log_probability: Any  # float32 [L]
    best: Any  # int32 [L, K]
    best_log_probability: Any  # float32 [L, K]


def round_up(count: int, least: int = 1) -> int:
    """The power of two from `count` on."""
    return max(least, 1 << max(count - 1, 0).bit_length())


def round_down(count: int) -> int:
    """The power of two up to `count`; at least 1."""
    return 1 << (max(count, 1).bit_length() - 1)


class Model:
    """One run on one device."""

    def __init__(self, run: RunDirectory, name: str, limit: int | None = None, rows: int = 16):
        """
        Args:
          limit: tokens of a text with its continuation, the separator before it included; None: one
            more than an example of the run's data has, as the last one is never read.
          rows: of a batch at most, a power of two.

        Raises UserError for a run that continues no text, or none as long.
        """
        config = run.config()
        family, kind = choices.family(config.model), choices.kind(config.data)
        if family.reader is None or kind.tokenizer is None or passes.translates(config):
            raise UserError(
                f"{run.path.name} is a run of model.family={config.model.family} on data.kind="
                f"{config.data.kind}, which continues no text"
            )
        self.name, self.rows = name, rows
        self.limit = limit or config.data.units_per_example + 1
        self.tokenizer: Any = kind.tokenizer(config.data, files.data_dir())
        self.tokens = len(self.tokenizer)  # that there are
        self._config, self._params = config.model, newest(run).used
        self._reader = choices.load(family.reader)
        self._score = jax.jit(functools.partial(_scores, config.model))
        longest = jax.ShapeDtypeStruct((1, self.limit - 1), np.int32)
        try:
            jax.eval_shape(self._score, self._params, longest, longest)
        except ConfigError as error:
            raise UserError(f"--tokens={limit}: {error}") from error

    @property
    def shapes(self) -> str:
        """What is compiled, in words."""
        powers = [str(2**i) for i in range(self.rows.bit_length())]
        read = self.limit - 1
        lengths = [str(n) for i in range(4, 64) if (n := 2**i) < read]
        return f"rows {', '.join(powers)}; lengths {', '.join([*lengths, str(read)])}"

    def named(self, token: int) -> str:
        """A token by itself, as text; bytes that are none are written out."""
        if token == self.tokenizer.separator:
            return SEPARATOR
        content = self.tokenizer.decode([token])
        try:
            return content.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)

    def fits(self, rows: Sequence[Row]) -> bool:
        """Whether they go into one batch, in which shorter texts are filled up to the longest."""
        if len(rows) > self.rows:
            return False
        return max(len(r.tokens) for r in rows) + max(r.most for r in rows) <= self.limit

    def write(self, rows: Sequence[Row]) -> Iterator[Told]:
        """What is told of new tokens of each row, some at a time, as long as one is asked for."""
        longest, most = max(len(r.tokens) for r in rows), max(r.most for r in rows)
        filled = [*rows, *[Row(rows[0].tokens[:1], 0)] * (round_up(len(rows)) - len(rows))]
        settings = telling.Settings(
            np.array([r.temperature and max(r.temperature, _COLDEST) for r in filled], np.float32),
            np.array([r.top_p for r in filled], np.float32),
            jnp.stack([jax.random.fold_in(jax.random.key(r.seed), r.number) for r in filled]),
        )
        before, room = round_up(longest, _SHORTEST), self.limit - 1
        if before + most - 1 > room:
            before = room - most + 1
        pieces = telling.tell(
            self._reader,
            self._config,
            self._params,
            [list(r.tokens) for r in filled],
            settings,
            telling.Room(before, min(round_up(before + most - 1), room), most, KNOWN),
        )
        for told in pieces:
            yield Told(*(np.asarray(x)[: len(rows)] for x in told))

    def score(self, texts: Sequence[Sequence[int]]) -> list[Scores]:
        """Of each text, tokens that begin with the separator."""
        longest = max(map(len, texts)) - 1  # the last token is not read
        length = min(round_up(longest, _SHORTEST), self.limit - 1)
        at_once = round_down(min(self.rows, _LOGITS // (length * self.tokens)))
        found = []
        for i in range(0, len(texts), at_once):
            some = texts[i : i + at_once]
            tokens_BxL, targets_BxL = np.zeros((2, round_up(len(some)), length), np.int32)
            for j, text in enumerate(some):
                read = len(text) - 1
                tokens_BxL[j, :read], targets_BxL[j, :read] = text[:-1], text[1:]
            arrays = jax.device_get(self._score(self._params, tokens_BxL, targets_BxL))
            for j, text in enumerate(some):
                found.append(Scores(*(x[j, : len(text) - 1] for x in arrays)))
        return found


def _scores(config: Any, params: Any, tokens_BxL: jax.Array, targets_BxL: jax.Array) -> Scores:
    """Of rows that are one document from its beginning; what fills them up is behind all that
    counts.
    """
    module = families.build(config)
    places_BxL = jnp.broadcast_to(jnp.arange(tokens_BxL.shape[1])[None], tokens_BxL.shape)
    batch = {"tokens": tokens_BxL, "positions": places_BxL}
    logits_BxLxV = families.predictions(module.apply({"params": params}, batch))["logits"]
    log_p_BxLxV = jax.nn.log_softmax(logits_BxLxV)
    found_BxL = jnp.take_along_axis(log_p_BxLxV, targets_BxL[..., None], axis=-1)[..., 0]
    best, best_BxLxK = jax.lax.top_k(log_p_BxLxV, min(KNOWN, log_p_BxLxV.shape[-1]))
    return Scores(found_BxL, best_BxLxK, best)
