"""T5: "small", "base", "large", "3b", "11b" (Raffel et al. 2020, arXiv 1910.10683, section 3.7),
and of version 1.1 "v1_1_base", whose MLPs are gated and whose head is its own.

    python launch.py check --config=configs/published/t5.py:3b --topology=v5p:4x4x4

Rows of 512 tokens in batches of 128 are theirs; the learning rate is ours.
"""

from typing import Any

import ml_collections

from configs.published.sized import sized

_SHARED: dict[str, Any] = {
    **{"vocab": 32_128, "positions": "relative", "qk_norm": False, "scale_scores": False},
    **{"mlp": "plain", "activation": "relu", "scale_head": True},
}


def _size(width: int, depth: int, heads: int, head_dim: int, mlp_width: int) -> dict[str, Any]:
    own = {"width": width, "depth": depth, "heads": heads, "head_dim": head_dim}
    return _SHARED | own | {"mlp_width": mlp_width}


SIZES = {
    "small": _size(512, 6, 8, 64, 2048),
    "base": _size(768, 12, 12, 64, 3072),
    "large": _size(1024, 24, 16, 64, 4096),
    "3b": _size(1024, 24, 32, 128, 16_384),
    "11b": _size(1024, 24, 128, 128, 65_536),
    "v1_1_base": _size(768, 12, 12, 64, 2048)
    | {"mlp": "gated", "activation": "gelu", "tie_embeddings": False, "scale_head": False},
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The run of a size; "" is "small"."""
    base = "encoder_decoder", "denoising", "next_token"
    return sized("t5", SIZES, arg, length=512, rows=128, base=base)
