"""A linear read-out of random features on the power-law task, whose test loss is known.

Sized for seconds on a laptop; `:debug` for less. Of a read-out that begins at zero, gradient
descent on all examples at once ends at the least squares of least norm, which
`scaling/data/kinds/vectors/theory.py` is about.
"""

import ml_collections

from scaling.config import base_config, is_debug

# Momentum for a Hessian whose eigenvalues span a factor of 1e4, as those of 128 features do here.
MOMENTUM = 0.98


def learning_rate(width: int) -> float:
    """Of `width` features: the largest eigenvalue of the Hessian grows with it, and is about it."""
    return 1.0 / width


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The base run of studies of the power law; arg "debug" shrinks it."""
    config = base_config(family="random_features", data="vectors", objective="regression")
    config.model.width = 64
    config.data.features = 2048
    config.data.targets = 16
    config.data.examples = 16_384
    config.data.unique_examples = 256
    config.data.validation_examples = 1024
    config.optim.name = "sgd"
    config.optim.b1 = MOMENTUM
    config.optim.peak_lr = learning_rate(64)
    config.optim.schedule = "constant"
    config.optim.warmup_fraction = 0.0
    config.optim.weight_decay = 0.0
    config.optim.clip_norm = None
    config.train.batch_size = 256
    config.train.steps = 1500
    config.train.log_every = 100
    config.train.steps_per_call = 10
    config.evals.batches = 4
    config.evals.batch_size = 256
    config.evals.every = None
    if is_debug(arg):
        config.model.width = 8
        config.data.features = 32
        config.data.unique_examples = 32
        config.data.validation_examples = 32
        config.optim.peak_lr = learning_rate(8)
        config.train.batch_size = 32
        config.train.steps = 4
        config.train.log_every = 2
        config.train.steps_per_call = 1
        config.evals.batches = 1
        config.evals.batch_size = 32
    return config
