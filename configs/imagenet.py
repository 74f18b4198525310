"""Networks of papers at their published size, on images of 224 x 224 pixels in 1,000 classes:
MobileNetV2, or ":vgg11", ":densenet121", ":googlenet", ":shufflenet_v2", ":efficientnet_b0",
":convnext_t".

To plan and to `check`, which need no data; to train, prepare ImageNet with images of one size, as
`tfds:imagenet_resized/64x64` has them, and `data.side` makes them 224. Learning rate and batch
are usual ones: nobody has trained these here. `:debug` is a small network on the digits.
"""

import ml_collections

from scaling.config import base_config, to_dict
from scaling.errors import ConfigError, nearest
from scaling.families.convnet.published import PUBLISHED

SIDE, CLASSES = 224, 1000


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The run of a network by its name; arg "debug" is a small one."""
    if arg not in (forms := ("", "debug", *PUBLISHED)):
        raise ConfigError(f":{arg} is no form of this config{nearest(arg, forms)}")
    config = base_config("convnet", "images", "classification")
    if arg == "debug":
        config.model.width = 4
        config.train.steps = 4
        config.train.batch_size = 8
        config.train.log_every = 2
        config.evals.batches = 1
        return config
    config.model.update(to_dict(PUBLISHED[arg or "mobilenet_v2"]))
    config.model.update(height=SIDE, image_width=SIDE, channels=3, classes=CLASSES)
    config.model.dtype = "bfloat16"
    config.data.source = "tfds:imagenet_resized/64x64"
    config.data.side = SIDE
    config.data.flip = True
    config.optim.peak_lr = 2e-3
    config.train.steps = 100_000
    config.train.batch_size = 1024
    config.train.log_every = 100
    config.evals.batch_size = 1024
    return config
