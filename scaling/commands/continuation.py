"""From a run directory and a prompt to text: `launch.py generate`.

Reads the run's config and newest checkpoint, on one device; the family does the rest.
"""

import jax
import jax.numpy as jnp
from etils import epath

from scaling import files
from scaling.config import choices
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
) -> str:
    """The prompt and what the run's newest model writes after it, up to the document's end.

    Raises:
      UserError: no such run, no checkpoint that can be read, or a sampling that makes no sense.
    """
    directory = RunDirectory(run)
    config = directory.config()
    family, kind = choices.family(config.model), choices.kind(config.data)
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
