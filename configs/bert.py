"""Bidirectional encoders of bytes, pretrained on masked tokens or trained on a task.

    masked      tokens that are hidden, of the standard library
    packages    which package a passage is from
    names       which of twelve languages a name is in
    tokens      the class that Python itself gives a token
    spans       the default, annotation or documentation of a parameter, as a span of the function
    base        the published size, on masked tokens; for accelerators

`configs/bert.py` is `masked`, `:tokens` a task, `:tokens_debug` a few steps of it. With
`--config.begins.run=<a masked run> --config.begins.new=head` (of labels "pooler,head") a task
begins with what a masked run has learned; for `spans` that run has `--config.model.depth=3`. Sized
for minutes on a core.
"""

from typing import Any

import ml_collections

from scaling.config import base_config, form_of
from scaling.studies.ladder import Recipe

# Two blocks at any width, heads of 16 channels. The rate falls as the width grows, as
# `experiments/learning_rate.py:bert` found at three widths.
RECIPE = Recipe(
    model={"head_dim": 16},
    aspect=float("inf"),
    min_depth=2,
    base_width=64,
    lr=4e-3,
    lr_exponent=-1.0,
    batch_size=32,
    units_per_param=15.0,
)
LOCALES = "de-en-es-fi-fr-hu-it-nl-pl-sv-sw-tr"  # in Latin letters

# To answer, the name in the question has to be found in the text. At higher rates an answer of the
# right sort is guessed for longer, or to the end; of two blocks one is wanting (docs/studies.md).
_SPANS = {
    **{"model.depth": 3, "optim.peak_lr": 7e-4, "optim.schedule": "wsd"},
    "optim.decay_fraction": 0.3,
}
# What each task has of its own; the length is that of training from scratch.
FORMS: dict[str, dict[str, Any]] = {
    "masked": {"data.seq_len": 128, "train.steps": 3000},
    "packages": {"data.seq_len": 128, "train.steps": 1000},
    "names": {"data.source": f"names:{LOCALES}", "data.seq_len": 48, "train.steps": 1500},
    "tokens": {"data.seq_len": 128, "train.steps": 1000},
    "spans": {"data.seq_len": 128, "train.steps": 2000, **_SPANS},
}
_KINDS = {"packages": "labelled", "names": "labelled", "tokens": "tagged", "spans": "questions"}
_LOSSES = {"labelled": "classification", "tagged": "tagging", "questions": "spans"}
# BERT-base (Devlin et al. 2019, section 3); it has one token more for the mask.
_BASE = {
    **{"model.width": 768, "model.depth": 12, "model.heads": 12, "model.head_dim": None},
    **{"model.positions": "learned", "model.places": 512, "model.vocab": 30_521},
    **{"model.dtype": "bfloat16", "model.remat": "attention", "model.scan_layers": True},
    **{"model.dropout": 0.1, "data.tokenizer": "bpe", "data.bpe_vocab": 30_521},
    **{"data.seq_len": 512, "train.batch_size": 256, "train.steps": 1_000_000},
    **{"optim.peak_lr": 1e-4, "optim.schedule": "linear", "evals.batch_size": 256},
}
_DEBUG = {
    **{"model.width": 16, "model.depth": 1, "model.heads": 1, "train.steps": 4},
    **{"train.batch_size": 8, "train.log_every": 2, "evals.batches": 1, "evals.batch_size": 8},
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The base run of a form, "masked" where none is said; "debug" behind it shrinks it."""
    given, debug = form_of(arg, ("", *FORMS, "base"))
    form = given or "masked"
    kind = _KINDS.get(form, "text")
    config = base_config("bert", kind, _LOSSES.get(kind, "masked_tokens"))
    config.model.width = 64
    config.model.depth = 2
    config.model.head_dim = 16
    config.model.pool = "mean"
    config.model.scan_layers = False  # two blocks: unrolled is faster on a CPU
    config.optim.peak_lr = RECIPE.lr
    config.optim.final_lr_fraction = 0.0
    config.train.batch_size = RECIPE.batch_size
    config.train.log_every = 50
    config.evals.batches = 32
    config.evals.batch_size = 32
    config.update_from_flattened_dict(_BASE if form == "base" else FORMS[form])
    if debug:
        config.update_from_flattened_dict(_DEBUG)
    return config
