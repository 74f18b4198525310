"""Tiny models of every architecture, with random weights, as runs that read no data."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from scaling.config import RunConfig, base_config, choices, from_dict
from scaling.families import build, exchanged, predictions
from scaling.families.exchanged import Architecture
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
LONG = {"rope_scaling.kind": "llama3", "rope_scaling.factor": 8.0, "rope_scaling.length": 16}
LONG |= {"rope_scaling.low": 1.5, "rope_scaling.high": 3.0}
MODELS |= {
    "llama_long": ROTARY | LONG | {"rope_theta": 500.0},
    "qwen3_long": ROTARY
    | {"qk_norm": True, "rope_scaling.kind": "linear", "rope_scaling.factor": 3.0},
}
BERT = SIZES | {
    **{"vocab": VOCAB - 1, "positions": "learned", "places": LENGTH + 4, "mlp_width": 24},
    **{"norms": "behind", "activation": "gelu_exact", "norm_eps": 1e-12},
}
MODELS |= {
    "bert_tokens": BERT | {"head": "tokens", "token_bias": True},
    "bert_passages": BERT | {"head": "passages", "token_bias": True, "activation": "relu"},
    "bert_label": BERT | {"head": "classes", "classes": 3, "dropout": 0.1},
    "bert_tags": BERT | {"head": "tags", "classes": 2, "activation": "gelu"},
    "bert_spans": BERT | {"head": "spans"},
}
IMAGE = {"height": 8, "image_width": 12, "channels": 3, "classes": 5}
MODELS |= {
    "vit": IMAGE
    | {"width": 16, "depth": 2, "heads": 4, "mlp_width": 24, "patch": 4, "norm_eps": 1e-12},
}
T5 = {
    **{"vocab": VOCAB, "width": 16, "depth": 3, "encoder_depth": 2, "heads": 4, "head_dim": 6},
    **{"mlp_width": 24, "qk_norm": False, "positions": "relative", "buckets": 8, "distance": 9},
    **{"scale_scores": False},
}
MODELS |= {
    "t5": T5 | {"mlp": "plain", "activation": "relu", "scale_head": True},
    "t5_gated": T5 | {"activation": "gelu", "tie_embeddings": False},
}
RESNET = IMAGE | {
    **{"width": 4, "depth": 1, "order": "post", "stem": "large", "norm": "frozen"},
    **{"padding": "centred", "height": 32, "image_width": 24},
}
MODELS |= {
    "resnet": RESNET | {"block": "bottleneck", "stages": "3-1"},
    "resnet_basic": RESNET | {"stages": "1-2"},
}
# (family, kind of data, objective) of a run, by how the name of its architecture begins.
BASES = {
    "bert_tokens": ("bert", "text", "masked_tokens"),
    "bert_passages": ("bert", "passages", "masked_passages"),
    "bert_label": ("bert", "labelled", "classification"),
    "bert_tags": ("bert", "tagged", "tagging"),
    "bert_spans": ("bert", "questions", "spans"),
    "vit": ("vit", "images", "classification"),
    "t5": ("encoder_decoder", "denoising", "next_token"),
    "t5_gated": ("encoder_decoder", "denoising", "next_token"),
    "resnet": ("resnet", "images", "classification"),
    "resnet_basic": ("resnet", "images", "classification"),
}
# Its class, where that does not follow from `model_type`.
CLASSES = {
    "llama_long": "LlamaForCausalLM",
    "qwen3_long": "Qwen3ForCausalLM",
    "bert_tokens": "BertForMaskedLM",
    "bert_passages": "BertForPreTraining",
    "bert_label": "BertForSequenceClassification",
    "bert_tags": "BertForTokenClassification",
    "bert_spans": "BertForQuestionAnswering",
    "t5_gated": "T5ForConditionalGeneration",
    "resnet_basic": "ResNetForImageClassification",
}


def base_of(name: str) -> tuple[str, str, str]:
    """(family, kind of data, objective) of a run of an architecture."""
    return BASES.get(name, ("transformer", "text", "next_token"))


def tables(name: str) -> tuple[Architecture, ...]:
    """Those of its family."""
    found: tuple[Architecture, ...] = choices.load(
        choices.record("model", base_of(name)[0]).exchange
    )
    return found


@functools.cache
def table(name: str) -> Architecture:
    """That of a name of `MODELS`."""
    wanted = CLASSES.get(name, name)
    (found,) = [one for one in tables(name) if wanted in (one.name, *one.classes)]
    return found.of(named(name).model)


def run_of(
    fields: Mapping[str, Any], base: tuple[str, str, str], image: Mapping[str, Any] | None = None
) -> RunConfig:
    """A resolved run of such a model; `image`: of a resnet, which no file of theirs says."""
    config = base_config(*base)
    config.update_from_flattened_dict({f"model.{name}": value for name, value in fields.items()})
    if base[0] == "resnet":
        sides = image or RESNET
        config.model.height, config.model.image_width = sides["height"], sides["image_width"]
    if "seq_len" in config.data:
        config.data.seq_len = LENGTH
    config.train.steps = 1
    config.optim.warmup_fraction = 0.0
    return study.resolve_planned(from_dict(config))


@functools.cache
def named(name: str) -> RunConfig:
    """That of an architecture."""
    return run_of(MODELS[name], base_of(name))


def random_leaves(config: RunConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Parameters by path, none of which is 0 or 1."""
    draw = np.random.default_rng(seed)
    return {
        path: _moved(path, draw.normal(0, 0.3, leaf.shape)).astype(np.float32)
        for path, leaf in sorted(transform.leaves(config).items())
    }


def _moved(path: str, noise: np.ndarray) -> np.ndarray:
    """Of gains around 0.3, of variances positive."""
    if path.endswith("variance"):
        return 0.5 + np.abs(noise)
    return noise + 0.3 * path.endswith("scale")


def theirs_of(name: str) -> dict[str, np.ndarray]:
    """The tensors of an architecture's random model."""
    return exchanged.to_theirs(table(name), random_leaves(named(name)))


def outputs_of(
    config: RunConfig, leaves: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What a model says of a batch, float32 by name; of tokens that fill up, 0."""
    model = build(config.model)

    def say(params: Any) -> dict[str, Any]:
        outputs = model.apply({"params": params}, batch)
        return predictions(outputs) | {n: outputs[n] for n in ("follows",) if n in outputs}

    found = jax.device_get(jax.jit(say)(subtree.nested(dict(leaves))))
    return {name: _seen(x, batch.get("segment_ids")) for name, x in found.items()}


def _seen(x: np.ndarray, segments_BxL: np.ndarray | None) -> np.ndarray:
    if segments_BxL is None or x.ndim < 3:
        return x
    return np.where(segments_BxL[..., None] > 0, x, 0)


def batch_of(name: str) -> dict[str, np.ndarray]:
    """Two rows of what an architecture reads, int32 [2, LENGTH] each; the ends of the last are no
    tokens, where it is told. Or two images.
    """
    draw = np.random.default_rng(1)
    if base_of(name)[1] == "images":
        sides = MODELS[name]["height"], MODELS[name]["image_width"]
        return {"image": draw.normal(size=(2, *sides, 3)).astype(np.float32)}
    tokens = draw.integers(0, VOCAB, (2, LENGTH), np.int32)
    places = np.broadcast_to(np.arange(LENGTH, dtype=np.int32), tokens.shape)
    found = {"tokens": tokens, "positions": places}
    if name.startswith("t5"):
        segments = np.int32([[1] * LENGTH, [1] * (LENGTH - 3) + [0] * 3])
        source = draw.integers(0, VOCAB, (2, LENGTH), np.int32)
        return found | {"source": source, "source_segments": segments}
    if name.startswith("bert"):
        found["segment_ids"] = np.int32([[1] * LENGTH, [1] * (LENGTH - 3) + [0] * 3])
        found["token_types"] = (places > 4).astype(np.int32)
    return found
