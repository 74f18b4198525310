"""From a run directory and prompts to text: `launch.py generate`.

Reads the run's config and newest checkpoint, on one device; the family does the rest.
"""

import codecs
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from scaling import files
from scaling.config import RunConfig, choices, passes
from scaling.errors import UserError
from scaling.families import decoding
from scaling.families.decoding import GREEDY, Sampling
from scaling.records import RunDirectory
from scaling.train.opened import newest


class Written:
    """What a run has written behind one prompt, as text."""

    def __init__(self, tokenizer: Any, stops: Sequence[str] = ()):
        """`stops`: texts before the first of which it ends."""
        self._tokenizer, self._stops = tokenizer, [stop for stop in stops if stop]
        self.separator: int = tokenizer.separator
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = max((len(stop) - 1 for stop in self._stops), default=0)
        self.text, self.said, self.done = "", 0, False

    def add(self, tokens: Sequence[int]) -> str:
        """More tokens; gives the text that can be said now: none of what may begin a stop."""
        if self.done:
            return ""
        row = list(tokens)
        if self.separator in row:
            row, self.done = row[: row.index(self.separator)], True
        self.text += self._decoder.decode(self._tokenizer.decode(row), self.done)
        ends = [at for stop in self._stops if (at := self.text.find(stop)) >= 0]
        if ends:
            self.text, self.done = self.text[: min(ends)], True
        return self._say(0 if self.done else self._held)

    def end(self) -> str:
        """What was held back."""
        if not self.done:
            self.text += self._decoder.decode(b"", True)
            self.done = True
        return self._say(0)

    def _say(self, held: int) -> str:
        upto = max(self.said, len(self.text) - held)
        new, self.said = self.text[self.said : upto], upto
        return new


def continue_texts(
    run: epath.PathLike,
    prompts: Sequence[str],
    tokens: int,
    *,
    sampling: Sampling = GREEDY,
    stops: Sequence[str] = (),
    seed: int = 0,
    beams: int = 1,
    beside: Sequence[epath.PathLike] = (),
    tell: Callable[[str], None] | None = None,
) -> list[str]:
    """Each prompt and what the run's newest model writes after it, up to the document's end or one
    of the `stops`; what is drawn for one depends on the others. Of a run that translates, what it
    makes of each prompt: the likeliest of `beams` texts.

    Args:
      beside: further runs of the same model that translate, whose probabilities are averaged with
        its own.
      tell: is given the text of the first prompt, piece after piece, as it is written.

    Raises:
      UserError: no such run, no checkpoint that can be read, or a sampling that makes no sense.
    """
    directory = RunDirectory(run)
    config = directory.config()
    family, kind = choices.family(config.model), choices.kind(config.data)
    if passes.translates(config):
        found = _translated([directory, *map(RunDirectory, beside)], config, prompts, beams)
        if tell is not None:
            tell(found[0])
        return found
    if beside:
        raise UserError(f"{directory.path.name} continues text: it is asked alone")
    if beams != 1:
        raise UserError(f"--beams={beams}: the run continues text, it does not translate")
    if family.reader is None or kind.tokenizer is None:
        raise UserError(
            f"generate: {directory.path.name} is a run of model.family={config.model.family} on "
            f"data.kind={config.data.kind}, which writes no text"
        )
    tokenizer = kind.tokenizer(config.data, files.data_dir())
    top_k = sampling.top_k
    if top_k is not None and top_k > (known := len(tokenizer)):
        raise UserError(f"--top_k={top_k}: the run knows {known} tokens, no more")
    given = [[tokenizer.separator, *tokenizer.encode(prompt)] for prompt in prompts]
    key, used = jax.random.key(seed), newest(directory).used
    reader = choices.load(family.reader)
    pieces = decoding.stream(reader, config.model, used, given, tokens, key, sampling)
    written, say = [Written(tokenizer, stops) for _ in prompts], tell or (lambda text: None)
    say(prompts[0])
    for tokens_BxN in pieces:
        new = [one.add(row.tolist()) for one, row in zip(written, tokens_BxN, strict=True)]
        say(new[0])
        if all(one.done for one in written):
            break
    ends = [one.end() for one in written]
    say(ends[0])
    return [prompt + one.text for prompt, one in zip(prompts, written, strict=True)]


def _translated(
    directories: Sequence[RunDirectory], config: RunConfig, sources: Sequence[str], beams: int
) -> list[str]:
    """What the runs make of each source. Raises UserError where one is too long for them, or where
    they have different models.
    """
    for other in directories[1:]:
        if other.config().model != config.model:
            raise UserError(
                f"{other.path.name} has another model than {directories[0].path.name}; give runs "
                "that differ in their seeds alone"
            )
    kind: Any = choices.kind(config.data)
    tokenizer = kind.tokenizer(config.data, files.data_dir())
    shapes = kind.shapes(config.data)
    ((room,), _), ((most,), _) = shapes["source"], shapes["targets"]
    source_BxS, there_BxS = np.zeros((2, len(sources), room), np.int32)
    for i, source in enumerate(sources):
        tokens = tokenizer.source(source)
        if not 1 <= len(tokens) <= room:
            raise UserError(
                f"--prompt has {len(tokens)} tokens; the run reads 1 to {room} (data.source_len)"
            )
        source_BxS[i, : len(tokens)], there_BxS[i, : len(tokens)] = tokens, 1
    found_BxN, _ = choices.load(choices.family(config.model).translate)(
        config.model,
        tuple(newest(directory).used for directory in directories),
        jnp.asarray(source_BxS),
        jnp.asarray(there_BxS),
        most,
        tokenizer.separator,
        beams,
        tokenizer.begins,
    )
    texts = [tokenizer.decode(row) for row in np.asarray(found_BxN).tolist()]
    return [text.decode("utf-8", errors="replace") for text in texts]
