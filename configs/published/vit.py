"""ViT on images of 224 pixels in 1,000 classes: "b16" and "l16" (Dosovitskiy et al. 2021, arXiv
2010.11929, table 1).

    python launch.py check --config=configs/published/vit.py:l16 --topology=v5e:4x4

Batches of 4,096 are theirs; the learning rate is ours.
"""

from typing import Any

import ml_collections

from configs.published.sized import sized


def _size(width: int, depth: int, heads: int) -> dict[str, Any]:
    return {
        **{"width": width, "depth": depth, "heads": heads, "patch": 16, "norm_eps": 1e-12},
        **{"activation": "gelu_exact", "channels": 3, "classes": 1000},
        **{"height": 224, "image_width": 224},
    }


SIZES = {"b16": _size(768, 12, 12), "l16": _size(1024, 24, 16)}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The run of a size; "" is "b16"."""
    base = "vit", "images", "classification"
    return sized("vit", SIZES, arg, length=None, rows=4096, base=base)
