"""Qwen 3, the dense ones: "0.6b", "1.7b", "4b", "8b", "14b", "32b" (Yang et al. 2025, arXiv
2505.09388, table 1; widths as in the weights' config.json).

    python launch.py check --config=configs/published/qwen3.py:0.6b --topology=v5e:4x4

Rows of 4,096 tokens and 36 trillion tokens are theirs; batches and learning rate are ours.
"""

from typing import Any

import ml_collections

from configs.published.sized import sized


def _size(width: int, depth: int, heads: int, mlp_width: int, tied: bool) -> dict[str, Any]:
    return {
        **{"vocab": 151_936, "width": width, "depth": depth, "heads": heads, "kv_heads": 8},
        **{"head_dim": 128, "mlp_width": mlp_width, "tie_embeddings": tied, "qk_norm": True},
        **{"rope_theta": 1e6, "norm_eps": 1e-6},
    }


SIZES = {
    "0.6b": _size(1024, 28, 16, 3072, tied=True),
    "1.7b": _size(2048, 28, 16, 6144, tied=True),
    "4b": _size(2560, 36, 32, 9728, tied=True),
    "8b": _size(4096, 36, 32, 12_288, tied=False),
    "14b": _size(5120, 40, 40, 17_408, tied=False),
    "32b": _size(5120, 64, 64, 25_600, tied=False),
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The run of a size; "" is "0.6b"."""
    config = sized("qwen3", SIZES, arg, length=4096, rows=1024)
    config.train.tokens_per_param = None
    config.train.tokens = 36e12
    return config
