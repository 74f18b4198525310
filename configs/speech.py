"""Spoken digits, of voices never heard in training: a convolution and an encoder with CTC, some
minutes on two cores.

Sized for a laptop; `:debug` for seconds. `--config.data.source=` takes dates and names that are
spoken, and recordings of one's own (docs/data.md).
"""

import ml_collections

from scaling.config import base_config, eval_set, is_debug
from scaling.studies.ladder import Recipe

# Two blocks at any width, under muP at one rate (`experiments/learning_rate.py:speech`). The base
# run, four times as long and with SpecAugment, has its own.
RECIPE = Recipe(
    model={"head_dim": 16},
    aspect=float("inf"),
    parametrization="mup",
    base_width=64,
    lr=1.2e-2,
    lr_exponent=0.0,
    batch_size=32,
    units_per_param=0.3,
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The base run of studies of speech; arg "debug" shrinks it."""
    config = base_config(family="speech", data="speech", objective="ctc")
    config.model.width = 64
    config.model.depth = 2
    config.model.heads = 4
    config.model.scan_layers = False  # few blocks: faster on a CPU
    config.model.spec_augment = 0.3
    config.data.utterances = 6000  # some 1.8 hours, spoken once, in a minute
    config.optim.peak_lr = 3e-3
    config.train.batch_size = 32
    config.train.steps = 1200
    config.train.log_every = 20
    config.evals.batches = 8
    config.evals.batch_size = 50
    with config.unlocked():
        config.evals.sets.texts = eval_set(by="generate")
    if is_debug(arg):
        config.model.width = 16
        config.model.depth = 1
        config.model.heads = 1
        config.data.utterances = 60
        config.train.batch_size = 4
        config.train.steps = 4
        config.train.log_every = 2
        config.evals.batches = 1
        config.evals.batch_size = 4
    return config
