"""From a run directory and a prompt to text: `launch.py generate`.

Reads the run's config and newest checkpoint, on one device; the family does the rest.
"""

from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from scaling import files
from scaling.config import RunConfig, choices, passes
from scaling.errors import UserError
from scaling.records import RunDirectory
from scaling.train.opened import newest


def continue_text(
    run: epath.PathLike,
    prompt: str,
    tokens: int,
    *,
    temperature: float = 0.8,
    top_k: int | None = None,
    seed: int = 0,
    beams: int = 1,
) -> str:
    """The prompt and what the run's newest model writes after it, up to the document's end. Of a
    run that translates, what it makes of the prompt: the likeliest of `beams` texts.

    Raises:
      UserError: no such run, no checkpoint that can be read, or a sampling that makes no sense.
    """
    directory = RunDirectory(run)
    config = directory.config()
    family, kind = choices.family(config.model), choices.kind(config.data)
    if passes.translates(config):
        return _translated(directory, config, prompt, beams)
    if beams != 1:
        raise UserError(f"--beams={beams}: the run continues text, it does not translate")
    if family.generate is None or kind.tokenizer is None:
        raise UserError(
            f"generate: {directory.path.name} is a run of model.family={config.model.family} on "
            f"data.kind={config.data.kind}, which writes no text"
        )
    tokenizer = kind.tokenizer(config.data, files.data_dir())
    if top_k is not None and top_k > (known := len(tokenizer.token_bytes)):
        raise UserError(f"--top_k={top_k}: the run knows {known} tokens, no more")
    params = newest(directory).used
    given = [tokenizer.separator, *tokenizer.encode(prompt)]
    out = choices.load(family.generate)(
        config.model,
        params,
        jnp.asarray([given], jnp.int32),
        tokens,
        jax.random.key(seed),
        temperature,
        top_k,
    )
    new = [int(token) for token in out[0][len(given) :]]
    if tokenizer.separator in new:
        new = new[: new.index(tokenizer.separator)]
    return prompt + tokenizer.decode(new).decode("utf-8", errors="replace")


def _translated(directory: RunDirectory, config: RunConfig, source: str, beams: int) -> str:
    """What the run makes of a source. Raises UserError where that is too long for the run."""
    kind: Any = choices.kind(config.data)
    tokenizer = kind.tokenizer(config.data, files.data_dir())
    tokens, shapes = tokenizer.encode(source), kind.shapes(config.data)
    ((room,), _), ((most,), _) = shapes["source"], shapes["targets"]
    if not 1 <= len(tokens) <= room:
        raise UserError(
            f"--prompt has {len(tokens)} tokens; the run reads 1 to {room} (data.source_len)"
        )
    source_1xS = jnp.asarray([tokens + [0] * (room - len(tokens))], jnp.int32)
    found_1xN, _ = choices.load(choices.family(config.model).translate)(
        config.model,
        newest(directory).used,
        source_1xS,
        (jnp.arange(room) < len(tokens))[None].astype(jnp.int32),
        most,
        tokenizer.separator,
        beams,
    )
    return tokenizer.decode(int(token) for token in found_1xN[0]).decode("utf-8", errors="replace")
