"""A decoder language model on the standard library's source, byte tokens.

`configs/lm.py` is sized for minutes on a laptop; `:debug` for seconds.
"""

import ml_collections

from scaling.config import base_config, is_debug


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The base run of most studies; arg "debug" shrinks it."""
    config = base_config()
    config.model.width = 128
    config.model.depth = 4
    config.model.heads = 4
    config.model.scan_layers = False  # few blocks: unrolled is faster on a CPU; set it for many
    config.data.seq_len = 256
    config.train.batch_size = 16
    config.train.steps = 1_000
    config.evals.every = 250
    if is_debug(arg):
        config.model.width = 32
        config.model.depth = 2
        config.model.heads = 2
        config.data.seq_len = 32
        config.train.batch_size = 8
        config.train.steps = 8
        config.train.log_every = 2
        config.evals.every = 4
        config.evals.batches = 2
        config.evals.batch_size = 8
    return config
