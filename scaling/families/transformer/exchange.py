"""The decoders of others that a transformer of ours can be: Llama, Mistral, Qwen 2 and 3, dense
and with experts, Mixtral, GPT-2.

`scaling/exchange` reads these tables in both directions (`families/exchanged.py`). Rotary positions
turn the same pairs of channels, i and i + head_dim / 2, as theirs do, so that no channel moves.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from scaling.errors import ConfigError
from scaling.families.exchanged import Architecture, Tensor, layer_norm

_LAYER = "model.layers.{layer}."


def _matrix(theirs: str, ours: str, inputs: int = 1) -> Tensor:
    return Tensor(f"{_LAYER}{theirs}.weight", (f"blocks/{ours}",), inputs)


def _norm(theirs: str, ours: str) -> Tensor:
    return Tensor(f"{_LAYER}{theirs}.weight", (f"blocks/{ours}/scale",))


_AROUND = (
    Tensor("model.embed_tokens.weight", ("embedding",)),
    Tensor("model.norm.weight", ("final_norm/scale",)),
    Tensor("lm_head.weight", ("head",)),
    _norm("input_layernorm", "attention_norm"),
    _norm("post_attention_layernorm", "mlp_norm"),
    _matrix("self_attn.q_proj", "attention/query/w"),
    _matrix("self_attn.k_proj", "attention/key/w"),
    _matrix("self_attn.v_proj", "attention/value/w"),
    _matrix("self_attn.o_proj", "attention/out/w", inputs=2),
)
_MLP = tuple(_matrix(f"mlp.{name}_proj", f"mlp/{name}/w") for name in ("gate", "up", "down"))
_EXPERTS = (
    _matrix("block_sparse_moe.gate", "moe/router"),
    *(
        _matrix(f"block_sparse_moe.experts.{{expert}}.{theirs}", f"moe/{name}")
        for theirs, name in (("w1", "gate"), ("w3", "up"), ("w2", "down"))
    ),
)


# Kind of scaling -> field of `model.rope_scaling` -> their key.
_SCALINGS: dict[str, dict[str, str]] = {
    "default": {},
    "linear": {"factor": "factor"},
    "llama3": {
        "factor": "factor",
        "low": "low_freq_factor",
        "high": "high_freq_factor",
        "length": "original_max_position_embeddings",
    },
}


def _rope(given: Mapping[str, Any]) -> dict[str, Any]:
    """With `rope_theta` at the top, where files of earlier versions have it, and how positions are
    scaled. Raises ConfigError for ways that are not known here.
    """
    found = dict(given.get("rope_parameters") or {})
    scaling = dict(given.get("rope_scaling") or found)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in _SCALINGS:
        raise ConfigError(
            f"config.json: rope_type={kind}, and rotary positions of this code are scaled in other "
            f"ways ({', '.join(_SCALINGS)})"
        )
    theta = {"rope_theta": found["rope_theta"]} if "rope_theta" in found else {}
    if lacking := [key for key in _SCALINGS[kind].values() if key not in scaling]:
        raise ConfigError(
            f"config.json: rope_type={kind} lacks {', '.join(lacking)}; take the one that was "
            "saved with the weights"
        )
    read = {f"_{name}": scaling[key] for name, key in _SCALINGS[kind].items()}
    return dict(given) | theta | {"_kind": "none" if kind == "default" else kind} | read


def _slides(given: Mapping[str, Any]) -> dict[str, Any]:
    """As `_rope`. Raises ConfigError for blocks that differ in their window."""
    kinds = set(given.get("layer_types") or ["full_attention"])
    if given.get("use_sliding_window") or kinds != {"full_attention"}:
        raise ConfigError(
            "config.json: use_sliding_window or layer_types gives some blocks a window, and blocks "
            "of this code are alike (model.window)"
        )
    return _rope(given)


def _several(given: Mapping[str, Any]) -> dict[str, Any]:
    """As `_rope`. Raises ConfigError for one expert a token, whose weight is 1 there, and here what
    the router says.
    """
    if given.get("num_experts_per_tok") == 1:
        raise ConfigError(
            "config.json: num_experts_per_tok=1, and the weight of one expert alone is another in "
            "this code (models/moe.py); it has num_experts_per_tok=2 and more"
        )
    return _rope(given)


def _counted(given: Mapping[str, Any]) -> dict[str, Any]:
    """With `num_experts`, which transformers writes as Mixtral's key from version 5 on."""
    key = "num_local_experts"
    return ({"num_experts": given[key]} if key in given else {}) | dict(given)


def _also(said: Mapping[str, Any], length: int) -> dict[str, Any]:
    kind = "default" if said["_kind"] == "none" else said["_kind"]
    scaling = {"rope_type": kind} | {key: said[f"_{name}"] for name, key in _SCALINGS[kind].items()}
    # Earlier versions read the second, and nothing in it where nothing is scaled.
    both = {"rope_parameters": scaling | {"rope_theta": said["rope_theta"]}}
    both |= {} if kind == "default" else {"rope_scaling": scaling}
    return both | {"max_position_embeddings": length}


_ROTARY = {
    "vocab": "vocab_size",
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "mlp_width": "intermediate_size",
    "norm_eps": "rms_norm_eps",
    "rope_theta": "rope_theta",
    "tie_embeddings": "tie_word_embeddings",
    "rope_scaling.kind": "_kind",
    **{f"rope_scaling.{name}": f"_{name}" for name in _SCALINGS["llama3"]},
}
# What every decoder below has, and none of them can say.
_HAS: dict[str, Any] = {
    "positions": "rope",
    "norm": "rms",
    "biases": "none",
    "qk_norm": False,
    "mlp": "gated",
    "window": None,
    "rope_length": None,
    "logit_softcap": None,
    "moe.experts": 0,
    "moe.shared": 0,
}
_ABSENT: dict[str, Any] = {
    "num_key_value_heads": None,
    "head_dim": None,
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    **{"_kind": "none", "_factor": 1.0, "_low": 1.0, "_high": 4.0, "_length": 8192},
}

# Of experts: see `_several`.
_SENT: dict[str, Any] = {
    "moe.experts": lambda model: max(model.moe.experts, 1),
    "moe.per_token": lambda model: max(model.moe.per_token, 2),
    "moe.router": "top_k",
    "moe.capacity_factor": None,
}

LLAMA = Architecture(
    name="llama",
    classes=("LlamaForCausalLM",),
    tensors=_AROUND + _MLP,
    has=_HAS,
    fields=_ROTARY,
    says={"hidden_act": "silu", "attention_bias": False, "mlp_bias": False},
    absent=_ABSENT,
    prefix="model.",
    ignored=("rotary_emb.inv_freq", "lm_head.weight"),
    normal=_rope,
    also=_also,
)
_WINDOW = {"window": "sliding_window"}
MISTRAL = dataclasses.replace(
    LLAMA,
    name="mistral",
    classes=("MistralForCausalLM",),
    has={name: value for name, value in _HAS.items() if name != "window"},
    fields=_ROTARY | _WINDOW,
    says={"hidden_act": "silu"},
    absent=_ABSENT | {"sliding_window": None},
)
QWEN3 = dataclasses.replace(
    LLAMA,
    name="qwen3",
    classes=("Qwen3ForCausalLM",),
    tensors=(
        *LLAMA.tensors,
        _norm("self_attn.q_norm", "attention/query_norm"),
        _norm("self_attn.k_norm", "attention/key_norm"),
    ),
    has=_HAS | {"qk_norm": True},
    says={"hidden_act": "silu", "attention_bias": False},
    normal=_slides,
    absent=_ABSENT | {"head_dim": 128},
)
QWEN2 = dataclasses.replace(
    LLAMA,
    name="qwen2",
    classes=("Qwen2ForCausalLM",),
    tensors=(
        *LLAMA.tensors,
        *(
            Tensor(f"{_LAYER}self_attn.{name[0]}_proj.bias", (f"blocks/attention/{name}/bias",), 0)
            for name in ("query", "key", "value")
        ),
    ),
    has=_HAS | {"biases": "qkv"},
    says={"hidden_act": "silu"},
    normal=_slides,
)
MIXTRAL = dataclasses.replace(
    MISTRAL,
    name="mixtral",
    classes=("MixtralForCausalLM",),
    tensors=_AROUND + _EXPERTS,
    has=dict(MISTRAL.has) | _SENT,
    fields=dict(MISTRAL.fields)
    | {
        "moe.experts": "num_local_experts",
        "moe.per_token": "num_experts_per_tok",
        "moe.width": "intermediate_size",
    },
    normal=_several,
    absent=dict(MISTRAL.absent) | {"rms_norm_eps": 1e-5, "rope_theta": 1e6},
)

QWEN3_MOE = dataclasses.replace(
    QWEN3,
    name="qwen3_moe",
    classes=("Qwen3MoeForCausalLM",),
    tensors=(
        *(one for one in QWEN3.tensors if one not in _MLP),
        _matrix("mlp.gate", "moe/router"),
        *(
            _matrix(f"mlp.experts.{{expert}}.{name}_proj", f"moe/{name}")
            for name in ("gate", "up", "down")
        ),
    ),
    has=dict(QWEN3.has) | _SENT,
    fields=_ROTARY
    | {
        "moe.experts": "num_experts",
        "moe.per_token": "num_experts_per_tok",
        "moe.width": "moe_intermediate_size",
    },
    says=dict(QWEN3.says)
    | {"norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []},
    normal=lambda given: _several(_slides(_counted(given))),
)


def _conv1d(theirs: str, *ours: str, inputs: int = 1) -> tuple[Tensor, Tensor]:
    """A matrix [inputs, outputs] with its bias."""
    name, paths = f"transformer.h.{{layer}}.{theirs}", [f"blocks/{one}" for one in ours]
    return (
        Tensor(f"{name}.weight", tuple(f"{one}/w" for one in paths), inputs, outputs_first=False),
        Tensor(f"{name}.bias", tuple(f"{one}/bias" for one in paths), 0),
    )


GPT2 = Architecture(
    name="gpt2",
    classes=("GPT2LMHeadModel",),
    tensors=(
        Tensor("transformer.wte.weight", ("embedding",)),
        Tensor("transformer.wpe.weight", ("positions",)),
        Tensor("lm_head.weight", ("head",)),
        *layer_norm("transformer.ln_f", "final_norm"),
        *layer_norm("transformer.h.{layer}.ln_1", "blocks/attention_norm"),
        *layer_norm("transformer.h.{layer}.ln_2", "blocks/mlp_norm"),
        *_conv1d("attn.c_attn", *(f"attention/{name}" for name in ("query", "key", "value"))),
        *_conv1d("attn.c_proj", "attention/out", inputs=2),
        *_conv1d("mlp.c_fc", "mlp/up"),
        *_conv1d("mlp.c_proj", "mlp/down"),
    ),
    has={name: value for name, value in _HAS.items() if name != "rope_length"}
    | {
        "positions": "learned",
        "rope_scaling.kind": "none",
        "norm": "layer",
        "biases": "all",
        "mlp": "plain",
        "kv_heads": lambda model: model.heads,
        "head_dim": lambda model: model.width // model.heads,
    },
    fields={
        "vocab": "vocab_size",
        "width": "n_embd",
        "depth": "n_layer",
        "heads": "n_head",
        "mlp_width": "n_inner",
        "places": "n_positions",
        "norm_eps": "layer_norm_epsilon",
        "tie_embeddings": "tie_word_embeddings",
    },
    says={
        "activation_function": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
    },
    absent={
        "n_inner": None,
        "n_positions": 1024,
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
    },
    prefix="transformer.",
    ignored=("attn.bias", "attn.masked_bias", "lm_head.weight"),
)

ARCHITECTURES = (LLAMA, MISTRAL, QWEN2, QWEN3, MIXTRAL, QWEN3_MOE, GPT2)
