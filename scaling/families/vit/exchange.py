"""The image classifier of others that a model of this family can be: ViT.

`scaling/exchange` reads this table in both directions (`families/exchanged.py`).
"""

from collections.abc import Mapping
from typing import Any

from scaling.config.amounts import resolved
from scaling.errors import ConfigError
from scaling.families.beside_weights import labels, unnamed
from scaling.families.exchanged import (
    ACTIVATIONS,
    Alone,
    Architecture,
    Kernel,
    Tensor,
    layer_norm,
    linear,
)

_LAYER = "vit.encoder.layer.{layer}."
_PATCHES = "vit.embeddings.patch_embeddings.projection"


def _normal(given: Mapping[str, Any]) -> dict[str, Any]:
    """With a side of the image a key, and the number of labels. Raises ConfigError for patches that
    are no squares.
    """
    height, width = _sides(given.get("image_size", 224))
    patch = _sides(given.get("patch_size", 16))
    if len(set(patch)) > 1:
        raise ConfigError(
            f"config.json: patch_size={list(patch)}, and patches of this code are squares"
        )
    own = {"image_size": height, "_image_width": width, "patch_size": patch[0]}
    return dict(given) | own | {"_labels": len(given.get("id2label") or "01")}


def _sides(said: Any) -> tuple[int, int]:
    height, width = said if isinstance(said, list | tuple) else (said, said)
    return int(height), int(width)


def _also(said: Mapping[str, Any], length: int) -> dict[str, Any]:
    height, width = said["image_size"], said["_image_width"]
    image = {"image_size": height if height == width else [height, width]}
    return image | labels(unnamed(said["_labels"])) | {"attention_probs_dropout_prob": 0.0}


def _sized(model: Any) -> tuple[Tensor, ...]:
    window = (model.patch, model.patch, resolved(model.channels))
    return (Kernel(f"{_PATCHES}.weight", ("patches/linear/w",), window=window),)


VIT = Architecture(
    name="vit",
    classes=("ViTForImageClassification",),
    tensors=(
        Alone("vit.embeddings.cls_token", ("class_token",), before=2),
        Alone("vit.embeddings.position_embeddings", ("positions",)),
        Tensor(f"{_PATCHES}.bias", ("patches/linear/bias",)),
        *(
            tensor
            for name in ("query", "key", "value")
            for tensor in linear(f"{_LAYER}attention.attention.{name}", f"blocks/attention/{name}")
        ),
        *linear(f"{_LAYER}attention.output.dense", "blocks/attention/out", inputs=2),
        *layer_norm(f"{_LAYER}layernorm_before", "blocks/attention_norm"),
        *layer_norm(f"{_LAYER}layernorm_after", "blocks/mlp_norm"),
        *linear(f"{_LAYER}intermediate.dense", "blocks/mlp/up"),
        *linear(f"{_LAYER}output.dense", "blocks/mlp/down"),
        *layer_norm("vit.layernorm", "final_norm"),
        *linear("classifier", "head", name="matrix/w"),
    ),
    sized=_sized,
    has={
        "pool": "class",
        "positions": "learned",
        "head_dim": lambda model: model.width // model.heads,
        "patch": lambda model: min(model.patch, resolved(model.height)),  # squares
        "drop_path": 0.0,
    },
    fields={
        "width": "hidden_size",
        "depth": "num_hidden_layers",
        "heads": "num_attention_heads",
        "mlp_width": "intermediate_size",
        "patch": "patch_size",
        "height": "image_size",
        "image_width": "_image_width",
        "channels": "num_channels",
        "classes": "_labels",
        "norm_eps": "layer_norm_eps",
        "activation": "hidden_act",
        "dropout": "hidden_dropout_prob",
    },
    says={"qkv_bias": True},
    absent={
        "num_channels": 3,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
    },
    values={"hidden_act": ACTIVATIONS},
    prefix="vit.",
    heads=("classifier.",),
    normal=_normal,
    also=_also,
)

ARCHITECTURES = (VIT,)
