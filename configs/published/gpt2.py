"""GPT-2: "124m", "355m", "774m", "1.5b" (Radford et al. 2019, table 2, which counts them short).

    python launch.py check --config=configs/published/gpt2.py:1.5b --topology=v5e:4x4

Rows of 1,024 tokens in batches of 512 are theirs; length and learning rate are ours.
"""

from typing import Any

import ml_collections

from configs.published.sized import sized


def _size(width: int, depth: int, heads: int) -> dict[str, Any]:
    return {
        **{"vocab": 50_257, "width": width, "depth": depth, "heads": heads},
        **{"positions": "learned", "places": 1024, "norm": "layer", "biases": "all"},
        **{"mlp": "plain", "qk_norm": False, "norm_eps": 1e-5},
    }


SIZES = {
    "124m": _size(768, 12, 12),
    "355m": _size(1024, 24, 16),
    "774m": _size(1280, 36, 20),
    "1.5b": _size(1600, 48, 25),
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The run of a size; "" is "124m"."""
    return sized("gpt2", SIZES, arg, length=1024, rows=512)
