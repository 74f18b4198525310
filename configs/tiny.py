"""The family of very small byte models that the quick start and the studies of an hour train.

Two blocks, heads of 16 channels, windows of 128 bytes, 512 bytes a step: small enough that a
laptop core trains a member in seconds to minutes, large enough that the loss follows a law.
"""

from dataclasses import replace

import ml_collections

from scaling.config import base_config, eval_set, is_debug
from scaling.studies.ladder import Recipe

# How a member of the family grows with its width: two blocks at any width, 15 training bytes a
# parameter, and under muP one peak learning rate for every width, that of width 32. What says so is
# `certify` and `experiments/learning_rate.py:mup` (docs/parametrizations.md).
RECIPE = Recipe(
    model={"head_dim": 16},
    aspect=float("inf"),
    min_depth=2,
    parametrization="mup",
    base_width=32,
    lr=2**-6.25,
    lr_exponent=0.0,
    batch_size=4,
    units_per_param=15.0,
)
# The same of recurrent networks: the rate is that of `experiments/learning_rate.py:lstm`.
LSTM = replace(RECIPE, model={}, lr=2**-5.25)
# The transformers' without a parametrization, peak learning rate 0.43 / width, which is what
# `experiments/learning_rate.py` found at five widths; it costs one percent of the loss at width 80.
SWEPT = replace(RECIPE, parametrization="standard", lr=0.43 / 32, lr_exponent=-1.0)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The base run; the studies set width and length. arg "debug" trains for a few steps."""
    config = base_config()
    config.model.width = 32
    config.model.depth = 2
    config.model.heads = 2
    config.model.scan_layers = False  # two blocks: unrolled is faster on a CPU
    config.data.seq_len = 128
    # All runs of a study read one stream of windows, the longer ones more of it: most of the noise
    # between seeds is which windows were drawn (docs/studies.md), and sizes are compared on equal
    # terms. `seed` draws the initial parameters.
    config.data.seed = 0
    config.optim.peak_lr = SWEPT.lr
    config.optim.schedule = "linear"
    config.optim.final_lr_fraction = 0.0
    config.train.batch_size = RECIPE.batch_size
    config.train.tokens_per_param = RECIPE.units_per_param
    config.train.log_every = 20
    config.evals.batches = 64
    config.evals.batch_size = 16
    with config.unlocked():
        # What was trained on, and prose against code: the gap and the shift of each run.
        config.evals.sets.seen = eval_set(split="train")
        config.evals.sets.docs = eval_set(part="docs", split="all")
    if is_debug(arg):
        config.data.seq_len = 32
        config.train.log_every = 2
        config.evals.batches = 2
        config.train.tokens_per_param = 0.1
    return config


def bare(arg: str = "") -> ml_collections.ConfigDict:
    """The base run without a length, evaluated on the validation set alone: in studies of many
    short runs the other sets would cost as much as training. The debug form keeps them.
    """
    config = get_config(arg)
    if is_debug(arg):
        config.train.tokens_per_param = None
    else:
        strip(config)
    return config


def strip(config: ml_collections.ConfigDict) -> None:
    """Takes the length away, and all evaluation sets but the validation set."""
    config.train.tokens_per_param = None
    with config.unlocked():
        del config.evals.sets["seen"]
        del config.evals.sets["docs"]
