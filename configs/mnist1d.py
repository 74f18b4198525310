"""MNIST-1D: signals of 40 numbers in ten classes, 4,000 to train on and 1,000 to test (Greydanus
and Kobak 2020). A residual network of one-dimensional convolutions, or ":mlp", ":lstm".

Sized for a minute or a few on a laptop; ":debug" for seconds.
"""

from typing import Any

import ml_collections

from scaling.config import base_config
from scaling.errors import ConfigError, nearest

# What each form has of its own.
FORMS: dict[str, dict[str, Any]] = {
    "": {"width": 16, "depth": 1, "peak_lr": 1e-2, "epochs": 10.0},
    "mlp": {"width": 256, "depth": 2, "peak_lr": 1e-3, "epochs": 60.0},
    "lstm": {"width": 64, "depth": 2, "peak_lr": 5e-3, "epochs": 10.0},
}
FAMILY = {"": "resnet", "mlp": "mlp", "lstm": "lstm_classifier", "debug": "resnet"}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The base run of a form; arg "debug" is a small one."""
    if arg not in FAMILY:
        raise ConfigError(f"configs/mnist1d.py:{arg} is no form{nearest(arg, FAMILY)}")
    form = FORMS.get(arg, FORMS[""])
    config = base_config(family=FAMILY[arg], data="images", objective="classification")
    config.data.source = "mnist1d"
    config.model.width, config.model.depth = form["width"], form["depth"]
    config.optim.peak_lr = form["peak_lr"]
    config.train.batch_size = 64
    config.train.epochs = form["epochs"]
    config.train.log_every = 50
    config.evals.batches = 16
    config.evals.batch_size = 64
    if arg == "debug":
        config.model.width = 4
        config.train.epochs = 0.1
        config.train.log_every = 2
        config.evals.batches = 2
    return config
