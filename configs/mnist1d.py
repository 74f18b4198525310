"""MNIST-1D: signals of 40 numbers in ten classes, 4,000 to train on and 1,000 to test (Greydanus
and Kobak 2020). A residual network of one-dimensional convolutions, or ":mlp", ":lstm".

Sized for a minute or a few on a laptop; ":debug" for seconds.
"""

from typing import Any

import ml_collections

from scaling.config import base_config
from scaling.errors import ConfigError, nearest

# What each form has of its own. A perceptron fits all signals within a few passes whatever it is,
# and without dropout and a norm ends at 64 % of the test's.
FORMS: dict[str, dict[str, Any]] = {
    "": {
        **{"model.width": 16, "model.depth": 1},
        **{"optim.peak_lr": 1e-2, "train.epochs": 10.0},
    },
    "lstm": {
        **{"model.width": 64, "model.depth": 2},
        **{"optim.peak_lr": 5e-3, "train.epochs": 10.0},
    },
    "mlp": {
        **{"model.width": 256, "model.depth": 2, "model.norm": "layer"},
        **{"model.activation": "gelu", "model.dropout": 0.2},
        **{"optim.peak_lr": 3e-3, "train.epochs": 60.0},
    },
    "debug": {"model.width": 4, "model.depth": 1, "train.epochs": 0.1, "train.log_every": 2},
}
FAMILY = {"lstm": "lstm_classifier", "mlp": "mlp"}  # of a form; else a residual network


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The base run of a form; arg "debug" is a small one."""
    if arg not in FORMS:
        raise ConfigError(f":{arg} is no form of this config{nearest(arg, FORMS)}")
    family = FAMILY.get(arg, "resnet")
    config = base_config(family=family, data="images", objective="classification")
    config.data.source = "mnist1d"
    config.train.batch_size = 64
    config.train.log_every = 50
    config.evals.batches = 2 if arg == "debug" else 16
    config.evals.batch_size = 64
    config.update_from_flattened_dict(FORMS[arg])
    return config
