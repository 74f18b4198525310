"""Dense decoders of the usual sizes, for accelerators: "124m", "350m", "1.3b", "8b".

bfloat16 matmuls, scanned blocks, remat; the mesh is left to the flags. The vocabulary is stated, so
that `launch.py check` needs no corpus; to train one, give a corpus large enough for a BPE of that
size (`data.source`, `data.bpe_vocab`). `:debug` is small, on bytes, and trains anywhere.
"""

from typing import Any

import ml_collections

from scaling.config import base_config
from scaling.errors import ConfigError, nearest

# GPT-3's shapes (Brown et al. 2020, table 2.1) with gated MLPs, and Llama 3's of 8B.
SIZES: dict[str, dict[str, Any]] = {
    "124m": {"width": 768, "depth": 12, "heads": 12},
    "350m": {"width": 1024, "depth": 24, "heads": 16},
    "1.3b": {"width": 2048, "depth": 24, "heads": 16},
    "8b": {
        "width": 4096,
        "depth": 32,
        "heads": 32,
        "kv_heads": 8,
        "mlp_width": 14_336,
        "tie_embeddings": False,
        "rope_theta": 500_000.0,
    },
}
# Windows a step: half a million tokens, a million for the largest two.
_BATCH = {"124m": 256, "350m": 256, "1.3b": 512, "8b": 256}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The run of a size; "" is "124m". Twenty tokens a parameter (Hoffmann et al. 2022)."""
    config = base_config()
    if arg == "debug":
        config.model.width = 32
        config.model.depth = 2
        config.model.heads = 2
        config.model.dtype = "bfloat16"
        config.model.remat = "full"
        config.data.seq_len = 32
        config.train.batch_size = 8
        config.train.steps = 8
        config.train.log_every = 2
        config.evals.batches = 2
        config.evals.batch_size = 8
        return config
    size = arg or "124m"
    if size not in SIZES:
        raise ConfigError(f"configs/dense.py:{arg} is no size{nearest(arg, (*SIZES, 'debug'))}")
    for name, value in SIZES[size].items():
        config.model[name] = value
    config.model.vocab = 131_072 if size == "8b" else 32_768
    config.model.dtype = "bfloat16"
    config.model.remat = "full"
    config.data.tokenizer = "bpe"
    config.data.bpe_vocab = config.model.vocab
    config.data.seq_len = 4096 if size == "8b" else 2048
    config.train.batch_size = _BATCH[size]
    config.train.tokens_per_param = 20.0
    config.optim.peak_lr = 3e-4
    config.evals.every = 1_000
    config.evals.batch_size = _BATCH[size]
    return config
