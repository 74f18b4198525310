"""A bidirectional encoder of bytes with four heads: which package a passage of the standard library
is from, the class that Python gives a token, the answer to a question of a function's parameter,
and tokens that are hidden. Each row is of one of the tasks.

Sized for minutes on a core; `:debug` for seconds. `--config.data.weights=1,0,0,1` trains on the
first and the last alone, `--config.data.temperature=2` by the size of each,
`--config.model.uncertainty=True` weighs their losses by variances that are learned.
"""

import ml_collections

from configs import bert
from scaling.config import base_config, eval_set, is_debug

TASKS = ("labelled", "tagged", "questions", "text")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The base run of studies of several tasks; arg "debug" shrinks it."""
    config = base_config("bert", "multitask", "multitask")
    config.model.width = 64
    config.model.depth = 2
    config.model.head_dim = 16
    config.model.pool = "mean"
    config.model.scan_layers = False  # two blocks: unrolled is faster on a CPU
    config.data.seq_len = 96
    config.optim.peak_lr = bert.RECIPE.lr
    config.optim.final_lr_fraction = 0.0
    config.train.batch_size = 32
    config.train.steps = 2000
    config.train.log_every = 50
    config.evals.batches = 16
    config.evals.batch_size = 32
    with config.unlocked():
        for task in TASKS:
            config.evals.sets[task] = eval_set(part=task)
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
