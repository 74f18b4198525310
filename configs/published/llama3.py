"""Llama 3: "8b" and "70b" (Grattafiori et al. 2024, arXiv 2407.21783, table 3).

    python launch.py check --config=configs/published/llama3.py:8b --topology=v5e:16x16

Rows of 8,192 tokens, batches of 4 million, their peak learning rates, 15 trillion tokens.
"""

import ml_collections

from configs.published.sized import sized

_SHARED = {
    "vocab": 128_256,
    "kv_heads": 8,
    "qk_norm": False,
    "tie_embeddings": False,
    "rope_theta": 500_000.0,
    "norm_eps": 1e-5,
}
SIZES = {
    "8b": _SHARED | {"width": 4096, "depth": 32, "heads": 32, "mlp_width": 14_336},
    "70b": _SHARED | {"width": 8192, "depth": 80, "heads": 64, "mlp_width": 28_672},
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The run of a size; "" is "8b"."""
    config = sized("llama3", SIZES, arg, length=8192, rows=512)
    config.optim.peak_lr = 1.5e-4 if arg == "70b" else 3e-4
    config.train.tokens_per_param = None
    config.train.tokens = 15e12
    return config
