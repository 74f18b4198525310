"""A small generator and discriminator of handwritten digits, 8 x 8 pixels, that come with
scikit-learn.

Sized for minutes on a laptop; `:debug` for seconds. `--config.data.source=tfds:<name>` takes any
prepared set of images.
"""

import ml_collections

from scaling.config import base_config, is_debug


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The base run of studies of generated images; arg "debug" shrinks it."""
    config = base_config(family="gan", data="images", objective="adversarial")
    config.model.width = 16
    config.objective.r1 = 1.0
    config.optim.peak_lr = 2e-3
    config.optim.schedule = "constant"
    config.optim.b1 = 0.0
    config.optim.b2 = 0.99
    config.optim.weight_decay = 0.0
    config.optim.clip_norm = None
    config.optim.ema_decay = 0.99
    config.train.batch_size = 32
    config.train.epochs = 40.0
    config.train.log_every = 20
    config.evals.batches = 6
    config.evals.batch_size = 32
    if is_debug(arg):
        config.model.width = 8
        config.model.latent = 8
        config.train.batch_size = 16
        config.train.epochs = 0.1
        config.train.log_every = 2
        config.evals.batches = 2
        config.evals.batch_size = 16
    return config
