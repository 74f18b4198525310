"""Tiny models of every architecture, with random weights, as runs that read no data."""

import functools
from typing import Any

import jax
import numpy as np

from scaling.config import RunConfig, base_config, from_dict
from scaling.families import build, exchanged
from scaling.families.transformer.exchange import ARCHITECTURES
from scaling.objectives.next_token.cross_entropy import logits
from scaling.optim import subtree
from scaling.studies import study
from scaling.transforms import transform

VOCAB, LENGTH = 260, 12  # more than the 257 tokens of bytes: a padded table
SIZES: dict[str, Any] = {"vocab": VOCAB, "width": 16, "depth": 2, "heads": 4, "dtype": "float32"}
ROTARY = SIZES | {"kv_heads": 2, "mlp_width": 24, "qk_norm": False, "tie_embeddings": False}
MODELS: dict[str, dict[str, Any]] = {
    "llama": ROTARY | {"norm_eps": 1e-5, "rope_theta": 500.0, "tie_embeddings": True},
    "mistral": ROTARY | {"window": 5},
    "qwen2": ROTARY | {"biases": "qkv"},
    "qwen3": ROTARY | {"qk_norm": True, "head_dim": 6},
    "mixtral": ROTARY | {"moe.experts": 3, "moe.per_token": 2, "scan_layers": False},
    "qwen3_moe": ROTARY | {"qk_norm": True, "moe.experts": 3, "moe.width": 12},
    "gpt2": SIZES
    | {
        **{"positions": "learned", "places": LENGTH, "norm": "layer", "biases": "all"},
        **{"mlp": "plain", "qk_norm": False, "norm_eps": 1e-5},
    },
}
TABLES = {one.name: one for one in ARCHITECTURES}


def run_of(fields: dict[str, Any]) -> RunConfig:
    """A resolved run of such a model."""
    config = base_config()
    config.update_from_flattened_dict({f"model.{name}": value for name, value in fields.items()})
    config.data.seq_len = LENGTH
    config.train.steps = 1
    config.optim.warmup_fraction = 0.0
    return study.resolve_planned(from_dict(config))


@functools.cache
def named(name: str) -> RunConfig:
    """That of an architecture."""
    return run_of(MODELS[name])


def random_leaves(config: RunConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Parameters by path, none of which is 0 or 1."""
    draw = np.random.default_rng(seed)
    return {
        path: draw.normal(0.3 * path.endswith("scale"), 0.3, leaf.shape).astype(np.float32)
        for path, leaf in sorted(transform.leaves(config).items())
    }


def theirs_of(name: str) -> dict[str, np.ndarray]:
    """The tensors of an architecture's random model."""
    return exchanged.to_theirs(TABLES[name], random_leaves(named(name)))


def logits_of(config: RunConfig, leaves: dict[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
    """float32 [B, L, V]."""
    places = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    batch = {"tokens": tokens, "positions": places}
    params = subtree.nested(dict(leaves))
    model = build(config.model)
    return np.asarray(jax.jit(lambda p: logits(model.apply({"params": p}, batch)))(params))


def some_tokens() -> np.ndarray:
    """int32 [2, LENGTH]."""
    return np.random.default_rng(1).integers(0, VOCAB, (2, LENGTH), np.int32)
