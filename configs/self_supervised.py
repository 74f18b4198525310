"""Representations of the digits without their labels: two views of each image that are to know each
other (SimCLR), or ":rotation", by which quarter turn it was turned, or ":masked", the patches that
were hidden (MAE).

Each is evaluated by a linear probe of its features, fitted to 100 labels; sized for some minutes on
a laptop, `:debug` for seconds.
"""

from typing import Any

import ml_collections

from scaling.config import base_config, eval_set
from scaling.errors import ConfigError, nearest

# What each form has of its own. Signals between neighbours are lost where an encoder halves small
# images, so that the convolutions halve them once.
_CONVOLUTIONS = {
    **{"model.family": "convnet", "model.block": "plain", "model.width": 16},
    **{"model.stages": "plain c16, c32 s2, c64", "optim.peak_lr": 5e-3},
}
FORMS: dict[str, dict[str, Any]] = {
    "": _CONVOLUTIONS
    | {"objective.name": "contrastive_views", "model.classes": 32, "model.head_width": 64},
    "rotation": _CONVOLUTIONS | {"objective.name": "rotation_prediction", "model.classes": 4},
    "masked": {
        **{"model.family": "masked_autoencoder", "model.width": 32, "model.depth": 2},
        **{"objective.name": "masked_patches", "optim.peak_lr": 3e-3},
        "model.scan_layers": False,
    },
}
FORMS["debug"] = FORMS[""] | {
    **{"model.width": 8, "train.epochs": 0.2, "train.log_every": 2, "train.batch_size": 32},
    "evals.batches": 2,
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The base run of a form; arg "debug" is a small one."""
    if arg not in FORMS:
        raise ConfigError(f":{arg} is no form of this config{nearest(arg, FORMS)}")
    own = FORMS[arg]
    config = base_config(own["model.family"], "images", own["objective.name"])
    config.optim.weight_decay = 0.01
    config.train.batch_size = 64
    config.train.epochs = 30.0
    config.train.log_every = 20
    config.evals.batches = 8
    config.evals.batch_size = 50
    with config.unlocked():
        config.evals.sets.probe = eval_set(by="features", fit_batches=2)
    config.update_from_flattened_dict(own)
    return config
