"""A small residual network on handwritten digits, 8 x 8 pixels, that come with scikit-learn.

Sized for a minute on a laptop; `:debug` for seconds. `--config.data.source=tfds:<name>` takes any
prepared set of images with labels.
"""

import ml_collections

from scaling.config import base_config, is_debug
from scaling.studies.ladder import Recipe

# How a member of the family grows with its width: one block a stage at any width. Learning rate and
# batch are those of the base at every size; nobody has swept them.
RECIPE = Recipe(
    aspect=float("inf"),
    min_depth=1,
    base_width=16,
    lr=1e-2,
    lr_exponent=0.0,
    batch_size=32,
    units_per_param=1.0,
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The base run of studies of vision; arg "debug" shrinks it."""
    config = base_config(family="resnet", data="images", objective="classification")
    config.model.width = 16
    config.model.depth = 1
    config.data.shift = 1
    config.optim.peak_lr = 1e-2
    config.train.batch_size = 32
    config.train.epochs = 20.0
    config.train.log_every = 20
    config.evals.batches = 12
    config.evals.batch_size = 32
    if is_debug(arg):
        config.model.width = 8
        config.train.epochs = 0.2
        config.train.log_every = 2
        config.evals.batches = 2
    return config
