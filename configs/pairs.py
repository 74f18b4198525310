"""An encoder-decoder that writes out dates in German: a minute on two cores.

Sized for a laptop; `:debug` for seconds. `--config.data.source=` takes names in two languages,
amounts, and pairs of one's own (docs/data.md).
"""

import ml_collections

from scaling.config import base_config, eval_set, is_debug
from scaling.studies.ladder import Recipe

# Two blocks on each side at any width, under muP at one rate, that of
# `experiments/learning_rate.py:pairs`.
RECIPE = Recipe(
    model={"head_dim": 16},
    aspect=float("inf"),
    parametrization="mup",
    base_width=64,
    lr=4e-3,
    lr_exponent=0.0,
    batch_size=64,
    units_per_param=0.5,
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The base run of studies of pairs of texts; arg "debug" shrinks it."""
    config = base_config(family="encoder_decoder", data="pairs")
    config.model.width = 64
    config.model.depth = 2
    config.model.heads = 4
    config.data.source = "dates:de"
    config.optim.peak_lr = RECIPE.lr
    config.train.batch_size = 64
    config.train.steps = 800
    config.train.log_every = 20
    config.evals.batches = 8
    config.evals.batch_size = 64
    with config.unlocked():
        config.evals.sets.texts = eval_set(by="generate")
    if is_debug(arg):
        config.model.width = 16
        config.model.depth = 1
        config.model.heads = 1
        config.train.batch_size = 8
        config.train.steps = 4
        config.train.log_every = 2
        config.evals.batches = 1
        config.evals.batch_size = 8
    return config
