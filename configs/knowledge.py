"""Models that learn facts; studies choose how many, how often, and how large the model is.

`:people` (the default) tells a small transformer of people who are made up, `:retrieval` puts what
was looked up before the question, and `:territories` tells true facts in sentences of bytes.
`:transe` and `:distmult` embed the territories' knowledge graph. Sized for seconds to minutes on a
laptop; `:debug` or `:<form>_debug` for less.
"""

import ml_collections

from scaling.config import base_config, eval_set, form_of

FORMS = ("people", "retrieval", "territories", "transe", "distmult")
GRAPHS = FORMS[3:]


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The base run of a form, "_debug" behind it, or "debug" for the first."""
    given, debug = form_of(arg, ("", *FORMS))
    form = given or FORMS[0]
    config = _graph(form) if form in GRAPHS else _told(form)
    config.optim.schedule = "cosine"
    config.optim.final_lr_fraction = 0.1
    config.optim.weight_decay = 0.0
    config.train.tokens_per_param = None
    config.train.log_every = 2 if debug else 2048
    config.train.steps_per_call = 1 if debug else 128
    config.evals.every = None
    config.evals.batches = 1 if debug else 64  # more than there are facts
    config.evals.batch_size = 64 if debug else 256
    if debug:
        config.model.width = 8
        config.train.epochs = None
        config.train.steps = 4
    return config


def _told(form: str) -> ml_collections.ConfigDict:
    """Facts in the order of tokens."""
    config = base_config(data="facts")
    config.model.width = 16
    config.model.depth = 2
    config.model.heads = 2
    config.model.scan_layers = False
    config.optim.peak_lr = 1e-2
    config.train.batch_size = 32
    config.train.epochs = 100.0
    parts = {"told": None, "names": "names", "values": "values"}
    if form == "retrieval":
        config.data.retrieved = 2
        config.data.misses = 0.5
        parts = {"closed": "closed", "right": "right", "wrong": "wrong"}
    if form != "territories":
        config.data.people = 400
    else:
        config.data.source = "territories"
        config.model.width = 64
        config.optim.peak_lr = 3e-3
        parts = {"told": "told"}
    with config.unlocked():
        for name, part in parts.items():
            config.evals.sets[name] = eval_set(by="facts", split="train", part=part)
        if form != "people":
            # Of facts whose question, or of people who, were in no training: from the statements,
            # or from what was looked up, alone.
            config.evals.sets.asked = eval_set(by="facts")
    return config


def _graph(form: str) -> ml_collections.ConfigDict:
    """Vectors of entities and relations."""
    config = base_config(family=form, data="triples", objective="link_prediction")
    config.model.width = 32
    config.optim.peak_lr = 1e-2
    config.train.batch_size = 128
    config.train.epochs = 30.0
    with config.unlocked():
        config.evals.sets.told = eval_set(split="train")
    return config
