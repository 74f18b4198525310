"""BERT: "base" and "large" (Devlin et al. 2019, arXiv 1810.04805, section 3.1), with the heads that
it was trained with, of masked tokens and of the order of passages.

    python launch.py check --config=configs/published/bert.py:large --topology=v5e:4x4

Rows of 512 tokens in batches of 256 and the learning rate are theirs.
"""

from typing import Any

import ml_collections

from configs.published.sized import sized


def _size(width: int, depth: int, heads: int) -> dict[str, Any]:
    return {
        **{"vocab": 30_521, "width": width, "depth": depth, "heads": heads, "dropout": 0.1},
        **{"positions": "learned", "places": 512, "norms": "behind", "norm_eps": 1e-12},
        **{"activation": "gelu_exact", "token_bias": True, "head": "passages"},
    }


SIZES = {"base": _size(768, 12, 12), "large": _size(1024, 24, 16)}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The run of a size; "" is "base"."""
    base = "bert", "passages", "masked_passages"
    config = sized("bert", SIZES, arg, length=512, rows=256, base=base)
    config.optim.peak_lr = 1e-4
    config.train.tokens_per_param = None
    config.train.steps = 1_000_000
    return config
