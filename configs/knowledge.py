"""Models that learn facts by heart: a small transformer on people who are made up; studies choose
what they are told and how often.

`:territories` tells true facts in sentences of bytes. `:triples` embeds the territories' knowledge
graph instead (`transe`, `distmult`). Sized for seconds to minutes on a laptop; `debug` or
`<form>_debug` for less.
"""

import ml_collections

from scaling.config import base_config, eval_set
from scaling.errors import ConfigError, nearest

FORMS = ("people", "territories")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The base run: people, told a hundred times each; arg "debug" shrinks it."""
    debug = arg.endswith("debug")
    form = arg.removesuffix("debug").removesuffix("_") or FORMS[0]
    if form not in FORMS:
        raise ConfigError(
            f":{arg} is no form of this config{nearest(form, FORMS)}; give one of "
            f"{', '.join(FORMS)}, with _debug if you like"
        )
    config = base_config(data="facts")
    config.model.depth = 2
    config.model.heads = 2
    config.model.scan_layers = False
    _length(config, debug)
    with config.unlocked():
        # What was told, as it was told.
        config.evals.sets.told = eval_set(by="facts", split="train")
    if form == "territories":
        config.model.width = 64
        config.data.source = "territories"
        config.optim.peak_lr = 3e-3
        config.train.epochs = 100.0
        with config.unlocked():
            # As the statements have it, and, asked for, what was never asked for.
            config.evals.sets.told = eval_set(by="facts", split="train", part="told")
            config.evals.sets.asked = eval_set(by="facts")
    else:
        config.model.width = 16
        config.data.people = 400
        config.optim.peak_lr = 1e-2
        with config.unlocked():
            config.evals.sets.names = eval_set(by="facts", split="train", part="names")
            config.evals.sets["values"] = eval_set(by="facts", split="train", part="values")
    if debug:
        config.model.width = 8
        config.train.epochs = None
        config.train.steps = 4
    return config


def _length(config: ml_collections.ConfigDict, debug: bool) -> None:
    """What all forms share of optimization and evaluation."""
    config.optim.schedule = "cosine"
    config.optim.final_lr_fraction = 0.1
    config.optim.weight_decay = 0.0
    config.train.batch_size = 32
    config.train.tokens_per_param = None
    config.train.epochs = 100.0
    config.train.log_every = 2 if debug else 2048
    config.train.steps_per_call = 1 if debug else 128
    config.evals.every = None
    config.evals.batches = 1 if debug else 64  # more than there are facts
    config.evals.batch_size = 64 if debug else 256
