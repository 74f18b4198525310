"""The encoder-decoder of others that a model of this family can be: T5, as first published and as
of version 1.1.

`scaling/exchange` reads this table in both directions (`families/exchanged.py`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from scaling.errors import ConfigError
from scaling.families.exchanged import Architecture, Tensor

# Their name -> (mlp, activation) of ours.
_FORMS = {
    "relu": ("plain", "relu"),
    "gated-gelu": ("gated", "gelu"),  # by tanh, where "gelu" alone is exact
    "gated-silu": ("gated", "silu"),
    "gelu": ("plain", "gelu_exact"),
    "gelu_new": ("plain", "gelu"),
    "silu": ("plain", "silu"),
    "gated-relu": ("gated", "relu"),
}


def _branch(stack: str, number: int, theirs: str, norm: str) -> Iterator[Tensor]:
    """An attention and the norm before it."""
    name = f"{stack}.block.{{layer}}.layer.{number}."
    yield Tensor(f"{name}layer_norm.weight", (f"{stack}/{norm}_norm/scale",))
    parts = {"q": "query", "k": "key", "v": "value", "o": "out"}
    for letter, ours in parts.items():
        path, inputs = f"{stack}/{norm}/{ours}/w", 2 if ours == "out" else 1
        yield Tensor(f"{name}{theirs}.{letter}.weight", (path,), inputs)


def _sized(model: Any) -> tuple[Tensor, ...]:
    """The MLPs."""
    names = {"wi": "up", "wo": "down"}
    if model.mlp == "gated":
        names = {"wi_0": "gate", "wi_1": "up", "wo": "down"}
    found = list[Tensor]()
    for stack, number in (("encoder", 1), ("decoder", 2)):
        name = f"{stack}.block.{{layer}}.layer.{number}."
        found.append(Tensor(f"{name}layer_norm.weight", (f"{stack}/mlp_norm/scale",)))
        found += [
            Tensor(f"{name}DenseReluDense.{theirs}.weight", (f"{stack}/mlp/{ours}/w",), 1)
            for theirs, ours in names.items()
        ]
    return tuple(found)


def _normal(given: Mapping[str, Any]) -> dict[str, Any]:
    """With the form of MLPs, and whether the head is the embedding and scaled. Raises ConfigError
    for MLPs of another form.

    Files of version 1.1 say that it is neither; those that later libraries write say that it is
    tied where it is not, and the weights tell.
    """
    form = given.get("feed_forward_proj", "relu")
    if form not in _FORMS:
        raise ConfigError(
            f"config.json: feed_forward_proj={form}, and models of this code have only "
            f"{', '.join(_FORMS)}"
        )
    mlp, activation = _FORMS[form]
    tied = given.get("tie_word_embeddings", True)
    found = {
        "_mlp": mlp,
        "_activation": activation,
        "_scaled": given.get("scale_decoder_outputs", tied),
        "_tied": "lm_head.weight" not in given["_names"] if "_names" in given else tied,
    }
    layers = given.get("num_layers")
    return dict(given) | found | {"num_decoder_layers": given.get("num_decoder_layers") or layers}


def _also(said: Mapping[str, Any], length: int) -> dict[str, Any]:
    activation = said["_activation"]
    if activation == "usual":
        activation = "silu" if said["_mlp"] == "gated" else "gelu"
    forms = {form: name for name, form in _FORMS.items()}
    form = said["_mlp"], activation
    if form not in forms:
        raise ConfigError(
            f"model.activation={activation} of model.mlp={said['_mlp']} is none that t5 has: "
            f"{', '.join(_FORMS)}"
        )
    return {
        "feed_forward_proj": forms[form],
        "tie_word_embeddings": said["_tied"],
        "scale_decoder_outputs": said["_scaled"],
        "is_encoder_decoder": True,
        "dropout_rate": 0.0,
        # The token before a text, where one is known (`exchange/outward.py`).
        "decoder_start_token_id": None,
        "pad_token_id": None,
    }


T5 = Architecture(
    name="t5",
    classes=("T5ForConditionalGeneration",),
    tensors=(
        Tensor("shared.weight", ("embedding",)),
        Tensor("lm_head.weight", ("head",)),
        Tensor("encoder.final_layer_norm.weight", ("encoder_norm/scale",)),
        Tensor("decoder.final_layer_norm.weight", ("final_norm/scale",)),
        *(
            Tensor(
                f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                (f"{stack}_bias",),
            )
            for stack in ("encoder", "decoder")
        ),
        *_branch("encoder", 0, "SelfAttention", "attention"),
        *_branch("decoder", 0, "SelfAttention", "attention"),
        *_branch("decoder", 1, "EncDecAttention", "reading"),
    ),
    sized=_sized,
    has={"positions": "relative", "qk_norm": False, "scale_scores": False, "pointer": False},
    fields={
        "vocab": "vocab_size",
        "width": "d_model",
        "depth": "num_decoder_layers",
        "encoder_depth": "num_layers",
        "heads": "num_heads",
        "head_dim": "d_kv",
        "mlp": "_mlp",
        "activation": "_activation",
        "mlp_width": "d_ff",
        "buckets": "relative_attention_num_buckets",
        "distance": "relative_attention_max_distance",
        "norm_eps": "layer_norm_epsilon",
        "tie_embeddings": "_tied",
        "scale_head": "_scaled",
    },
    says={},
    absent={
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
    },
    # Published files have the embedding thrice, and a table that no layer reads.
    ignored=(
        "coder.embed_tokens.weight",
        "lm_head.weight",
        "EncDecAttention.relative_attention_bias.weight",
    ),
    normal=_normal,
    also=_also,
)

ARCHITECTURES = (T5,)
