"""The encoders of others that a model of this family can be: BERT, with a head for masked tokens,
for these and the order of passages, for a label, for a class of each token, or for a span.

`scaling/exchange` reads these tables in both directions (`families/exchanged.py`).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from scaling.families.beside_weights import labels, unnamed
from scaling.families.exchanged import (
    ACTIVATIONS,
    Architecture,
    Backwards,
    Tensor,
    layer_norm,
    linear,
)

_LAYER = "bert.encoder.layer.{layer}."
_BODY = (
    *(
        Tensor(f"bert.embeddings.{theirs}_embeddings.weight", (ours,))
        for theirs, ours in (
            ("word", "embedding"),
            ("position", "positions"),
            ("token_type", "types"),
        )
    ),
    *layer_norm("bert.embeddings.LayerNorm", "embedding_norm"),
    *(
        tensor
        for name in ("query", "key", "value")
        for tensor in linear(f"{_LAYER}attention.self.{name}", f"blocks/attention/{name}")
    ),
    *linear(f"{_LAYER}attention.output.dense", "blocks/attention/out", inputs=2),
    *layer_norm(f"{_LAYER}attention.output.LayerNorm", "blocks/attention_norm"),
    *linear(f"{_LAYER}intermediate.dense", "blocks/mlp/up"),
    *linear(f"{_LAYER}output.dense", "blocks/mlp/down"),
    *layer_norm(f"{_LAYER}output.LayerNorm", "blocks/mlp_norm"),
)
_TOKENS = (
    *linear("cls.predictions.transform.dense", "transform"),
    *layer_norm("cls.predictions.transform.LayerNorm", "transform_norm"),
    Tensor("cls.predictions.bias", ("token_bias",)),
)
_POOLER = linear("bert.pooler.dense", "pooler", name="matrix/w")
_TABLE = "cls.predictions.decoder."  # the embedding, and the biases once more
_HAS: dict[str, Any] = {
    "positions": "learned",
    "norms": "behind",
    "head_dim": lambda model: model.width // model.heads,
    "drop_path": 0.0,
}


def _normal(given: Mapping[str, Any]) -> dict[str, Any]:
    """With the number of labels, and whether a row of the table is none of the tokenizer's tokens:
    that which masks, where none of these does (`_mask_token`).
    """
    row = given.get("_mask_token") is None
    found = {"_labels": len(given.get("id2label") or "01"), "_mask_row": row}
    return dict(given) | found | {"vocab_size": given.get("vocab_size", 30_522) - row}


def _also(said: Mapping[str, Any], length: int) -> dict[str, Any]:
    rows = said["vocab_size"] + said["_mask_row"]
    return {"vocab_size": rows, "attention_probs_dropout_prob": 0.0}


def _labels(said: Mapping[str, Any], length: int) -> dict[str, Any]:
    return _also(said, length) | labels(unnamed(said["_labels"]))


MASKED = Architecture(
    name="bert",
    classes=("BertForMaskedLM",),
    tensors=_BODY + _TOKENS,
    has=_HAS | {"head": "tokens", "token_bias": True},
    fields={
        "vocab": "vocab_size",
        "mask_row": "_mask_row",
        "width": "hidden_size",
        "depth": "num_hidden_layers",
        "heads": "num_attention_heads",
        "mlp_width": "intermediate_size",
        "places": "max_position_embeddings",
        "norm_eps": "layer_norm_eps",
        "activation": "hidden_act",
        "dropout": "hidden_dropout_prob",
    },
    says={"type_vocab_size": 2, "is_decoder": False, "tie_word_embeddings": True},
    absent={"layer_norm_eps": 1e-12, "hidden_act": "gelu", "hidden_dropout_prob": 0.1},
    values={"hidden_act": ACTIVATIONS},
    prefix="bert.",
    heads=("cls.", "classifier.", "qa_outputs."),
    ignored=("embeddings.position_ids", f"{_TABLE}weight", f"{_TABLE}bias"),
    normal=_normal,
    also=_also,
)
PASSAGES = dataclasses.replace(
    MASKED,
    classes=("BertForPreTraining",),
    # Theirs has the passage that follows first.
    tensors=(
        *MASKED.tensors,
        *_POOLER,
        Backwards("cls.seq_relationship.weight", ("head/matrix/w",), 1),
        Backwards("cls.seq_relationship.bias", ("head/bias",), 0),
    ),
    has=_HAS | {"head": "passages", "token_bias": True, "pool": "class"},
)
LABEL = dataclasses.replace(
    MASKED,
    classes=("BertForSequenceClassification",),
    tensors=(*_BODY, *_POOLER, *linear("classifier", "head", name="matrix/w")),
    has=_HAS | {"head": "classes", "token_bias": False, "pool": "class"},
    fields=dict(MASKED.fields) | {"classes": "_labels"},
    also=_labels,
)
TAGS = dataclasses.replace(
    LABEL,
    classes=("BertForTokenClassification",),
    tensors=(*_BODY, *linear("classifier", "head")),
    has=_HAS | {"head": "tags", "token_bias": False},
)
SPANS = dataclasses.replace(
    MASKED,
    classes=("BertForQuestionAnswering",),
    tensors=(*_BODY, *linear("qa_outputs", "head")),
    has=_HAS | {"head": "spans", "token_bias": False},
)

ARCHITECTURES = (MASKED, PASSAGES, LABEL, TAGS, SPANS)
