"""Networks on handwritten digits, 8 x 8 pixels, that come with scikit-learn: a small residual
network, or ":vit", ":mixer", or convolutions in other blocks: ":plain" (VGG), ":dense",
":inception", ":inverted" (MobileNetV2), ":mbconv" (EfficientNet), ":shuffle", ":convnext".

The residual network is sized for a minute on a laptop, the others for a few; `:debug` for seconds.
`--config.data.source=tfds:<name>` takes any prepared set of images with labels,
`--config.data.source=folder:<path>` a folder of such pictures.
"""

from typing import Any

import ml_collections

from scaling.config import base_config
from scaling.errors import ConfigError, nearest
from scaling.studies.ladder import Recipe

# How a member of the family grows with its width: one block a stage at any width, under muP at one
# rate (`experiments/learning_rate.py:vision`).
RECIPE = Recipe(
    aspect=float("inf"),
    min_depth=1,
    parametrization="mup",
    base_width=16,
    lr=1e-2,
    lr_exponent=0.0,
    batch_size=32,
    units_per_param=1.0,
)

# What each form has of its own. Patches know nothing of neighbourhood: they need more passes.
# Few blocks: unrolled is faster on a CPU.
_PATCHES = {
    **{"model.depth": 3, "model.scan_layers": False, "optim.peak_lr": 3e-3},
    **{"train.batch_size": 64, "train.epochs": 100.0},
}
FORMS: dict[str, dict[str, Any]] = {
    "": {},
    # Averaged weights differ less between seeds.
    "vit": _PATCHES
    | {"model.family": "vit", "model.width": 64, "model.pool": "mean", "optim.ema_decay": 0.99},
    "mixer": _PATCHES | {"model.family": "mixer", "model.width": 48},
    **{
        block: {"model.family": "convnet", "model.block": block}
        for block in ("plain", "dense", "inception", "inverted", "mbconv", "shuffle", "convnext")
    },
    "debug": {"model.width": 8, "train.epochs": 0.2, "train.log_every": 2, "evals.batches": 2},
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The base run of studies of vision; arg "debug" shrinks it."""
    if arg not in FORMS:
        raise ConfigError(f":{arg} is no form of this config{nearest(arg, FORMS)}")
    own = FORMS[arg]
    family = own.get("model.family", "resnet")
    config = base_config(family=family, data="images", objective="classification")
    config.model.width = 16
    config.model.depth = 1
    config.data.shift = 1
    config.optim.peak_lr = 1e-2
    config.train.batch_size = 32
    config.train.epochs = 20.0
    config.train.log_every = 20
    config.evals.batches = 12
    config.evals.batch_size = 32
    config.update_from_flattened_dict(own)
    return config
