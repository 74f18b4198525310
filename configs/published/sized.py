"""The run that every published model here shares: bfloat16, scanned blocks, remat.

The vocabulary or the image is stated, so that `launch.py check` reads no data; the mesh is left to
the flags.
To train one from where its publishers left it, bring its weights (`launch.py import`).
"""

from collections.abc import Mapping
from typing import Any

import ml_collections

from scaling.config import base_config
from scaling.errors import ConfigError, nearest


def sized(
    name: str,
    sizes: Mapping[str, Mapping[str, Any]],
    size: str,
    length: int | None,
    rows: int,
    base: tuple[str, str, str] = ("transformer", "text", "next_token"),
) -> ml_collections.ConfigDict:
    """The base run with the model of a size.

    Args:
      name: of the file, for errors.
      sizes: fields of the model by size.
      size: one of them; "" is the first.
      length: tokens of a row; None: a row is no text.
      rows: of a batch.
      base: family, kind of data and objective.

    Raises ConfigError for a size that there is none of.
    """
    size = size or next(iter(sizes))
    if size not in sizes:
        raise ConfigError(f"configs/published/{name}.py:{size} is no size{nearest(size, sizes)}")
    config = base_config(*base)
    config.update_from_flattened_dict({f"model.{k}": v for k, v in sizes[size].items()})
    config.model.dtype = "bfloat16"
    config.model.remat = "full"
    config.train.batch_size = rows
    if length is None:
        config.train.steps = 100_000
    else:
        config.data.tokenizer = "bpe"
        config.data.bpe_vocab = config.model.vocab
        config.data.seq_len = length
        config.train.tokens_per_param = 20.0
    config.evals.batch_size = rows
    config.optim.peak_lr = 3e-4
    return config
