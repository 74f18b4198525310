"""A small transformer on sequences of known law; studies choose the task.

Sized for seconds on a laptop; `:debug` for less.
"""

import ml_collections

from scaling.config import base_config, is_debug


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The base run: a Markov chain of order one, seen once; arg "debug" shrinks it."""
    config = base_config(data="sequences")
    config.model.width = 32
    config.model.depth = 1
    config.model.heads = 2
    config.model.scan_layers = False
    config.data.source = "markov"
    config.data.validation_examples = 4096
    config.optim.peak_lr = 1e-2
    config.optim.schedule = "linear"
    config.optim.final_lr_fraction = 0.0
    config.optim.weight_decay = 0.0
    config.train.batch_size = 8
    config.train.units = 2.0**18
    config.train.tokens_per_param = None
    config.train.log_every = 64
    config.train.steps_per_call = 16
    config.evals.every = None
    config.evals.batches = 16
    config.evals.batch_size = 256
    if is_debug(arg):
        config.model.width = 8
        config.data.length = 16
        config.data.validation_examples = 64
        config.train.units = 1024.0
        config.train.log_every = 2
        config.train.steps_per_call = 1
        config.evals.batches = 1
        config.evals.batch_size = 64
    return config
