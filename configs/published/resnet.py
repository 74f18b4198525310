"""ResNet on images of 224 pixels in 1,000 classes: "18", "34", "50", "101" and "152" (He et al.
2015, arXiv 1512.03385, table 1), with the stride of a bottleneck in its 3x3 convolution, and group
norms in the place of batch norms, which have as many parameters that are trained.

    python launch.py check --config=configs/published/resnet.py:50 --topology=v5e:4x4

Batches of 256 are theirs; the learning rate is ours. Those that others have trained, whose
statistics are kept, are of `model.norm=frozen`.
"""

from typing import Any

import ml_collections

from configs.published.sized import sized


def _size(block: str, stages: str) -> dict[str, Any]:
    return {
        **{"width": 64, "depth": 1, "block": block, "stages": stages, "order": "post"},
        **{"stem": "large", "padding": "centred", "channels": 3, "classes": 1000},
        **{"height": 224, "image_width": 224},
    }


SIZES = {
    "50": _size("bottleneck", "3-4-6-3"),
    "18": _size("basic", "2-2-2-2"),
    "34": _size("basic", "3-4-6-3"),
    "101": _size("bottleneck", "3-4-23-3"),
    "152": _size("bottleneck", "3-8-36-3"),
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The run of a size; "" is "50"."""
    base = "resnet", "images", "classification"
    return sized("resnet", SIZES, arg, length=None, rows=256, base=base)
