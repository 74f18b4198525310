"""The transformer: a decoder for text, dense or with mixtures of experts. No jax in this file."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from scaling.config.amounts import resolved
from scaling.config.contracts import (
    AT_LEAST_ONE,
    DECAY,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_OR_OFF,
    Facts,
    Family,
    Roles,
)
from scaling.errors import ConfigError
from scaling.families import from_data
from scaling.families.transformer import sizes
from scaling.families.transformer.fields import TransformerConfig
from scaling.families.transformer.rule import RULE
from scaling.models.fields import MoEConfig


def resolve(model: TransformerConfig, facts: Facts) -> TransformerConfig:
    """The model with its vocabulary and derived sizes filled in. Raises ConfigError."""
    vocab = from_data.vocabulary(model, facts.sizes, padded=True)
    kv_heads = model.kv_heads or model.heads
    if model.heads % kv_heads:
        raise ConfigError(
            f"model.heads={model.heads} is not divisible by model.kv_heads={kv_heads}"
        )
    head_dim = from_data.head_dim(model)
    if head_dim % 2:
        raise ConfigError(
            f"model.head_dim={head_dim} must be even: rotary positions turn pairs of channels"
        )
    if model.positions == "alibi" and model.attention in ("cudnn", "splash"):
        raise ConfigError(
            f"model.attention={model.attention} cannot add model.positions=alibi to its scores; "
            "set it to auto"
        )
    if model.positions == "learned" and model.places is None:
        raise ConfigError("model.positions=learned needs model.places, the tokens of a row at most")
    scaling = model.rope_scaling
    if scaling.kind != "none" and model.rope_length is not None:
        raise ConfigError(
            f"model.rope_scaling.kind={scaling.kind} and model.rope_length={model.rope_length} "
            "both change the positions; leave one of them unset"
        )
    if scaling.high <= scaling.low:
        raise ConfigError(
            f"model.rope_scaling.high={scaling.high} must be more than model.rope_scaling.low="
            f"{scaling.low}"
        )
    mlp_width = from_data.mlp_width(model)
    return dataclasses.replace(
        model,
        vocab=vocab,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mlp_width=mlp_width,
        moe=_resolve_moe(model.moe, mlp_width),
    )


def _resolve_moe(moe: MoEConfig, mlp_width: int) -> MoEConfig:
    if not moe.experts:
        return moe
    if moe.per_token > moe.experts:
        raise ConfigError(
            f"model.moe.per_token={moe.per_token} is more than model.moe.experts={moe.experts}"
        )
    factor = moe.capacity_factor
    if moe.router == "expert_choice" and factor is None:
        factor = 1.0  # every token has per_token experts on average
    return dataclasses.replace(moe, width=moe.width or mlp_width, capacity_factor=factor)


def _scaled(config: TransformerConfig, width: int, depth: int) -> dict[str, Any]:
    """Heads of about as many channels as the config's, as many queries a key head, and MLPs and
    experts in proportion. What the config leaves to `resolve` stays so.
    """
    heads = from_data.even_heads(config, width)
    proportions = _proportions(config, width, heads["model.heads"])
    return {"model.width": width, "model.depth": depth} | heads | proportions


def _proportions(base: TransformerConfig, width: int, heads: int) -> dict[str, Any]:
    """What a model of this width and these query heads has in the base's proportions. What the
    base leaves to `resolve` stays so.
    """

    def channels(of_base: int | None) -> int | None:
        if of_base is None:
            return None
        unit = 16 if base.mlp == "gated" else 1  # the defaults are rounded in the same way
        return -(-of_base * width // (base.width * unit)) * unit

    kv_heads = None
    if base.kv_heads is not None:
        wanted = heads * base.kv_heads / base.heads
        kv_heads = from_data.nearest(from_data.divisors(heads), wanted)
    return {
        "model.kv_heads": kv_heads,
        "model.mlp_width": channels(base.mlp_width),
        "model.moe.width": channels(base.moe.width),
    }


def _roles(model: TransformerConfig) -> Roles:
    """The gain of normed queries takes what else their matrix would."""
    return Roles(
        outputs=("head",),
        tied=("final_norm",) if model.tie_embeddings else (),
        attention=("query_norm",) if model.qk_norm else ("attention/query",),
        blocks=("blocks",),
        branches=("attention/out", "mlp/down", "moe/down", "shared/down"),
        branch_init=-0.5,
    )


def _part(model: TransformerConfig, mesh: Mapping[str, int]) -> TransformerConfig:
    """What one device of a mesh computes: its heads, channels, experts and blocks."""

    def share(size: int, *axes: str) -> int:
        return max(1, math.ceil(size / math.prod(mesh[axis] for axis in axes)))

    kv_heads, moe = share(resolved(model.kv_heads), "tensor"), model.moe
    if moe.experts:
        experts = max(moe.per_token, share(moe.experts, "expert"))
        moe = replace(moe, experts=experts, width=share(resolved(moe.width), "tensor"))
    return replace(
        model,
        depth=share(model.depth, "stage"),
        kv_heads=kv_heads,
        heads=kv_heads * (model.heads // resolved(model.kv_heads)),
        mlp_width=share(resolved(model.mlp_width), "tensor"),
        vocab=share(resolved(model.vocab), "tensor", "stage"),
        moe=moe,
        remat="full" if model.remat == "offload" else model.remat,
    )


_WITHOUT_EXPERTS = (
    *(f"model.moe.{f.name}" for f in dataclasses.fields(MoEConfig) if f.name != "experts"),
    *("objective.load_balance", "objective.router_z"),
)


def _has_experts(config: Any) -> bool:
    return bool(config.model.moe.experts > 0)


def _turns(config: Any) -> bool:
    return bool(config.model.positions == "rope")


def _scales(config: Any) -> bool:
    return bool(config.model.rope_scaling.kind != "none")


def _scales_some(config: Any) -> bool:
    return bool(config.model.rope_scaling.kind == "llama3")


def _looks_up(config: Any) -> bool:
    return bool(config.model.positions == "learned")


def _sends_tokens(config: Any) -> bool:
    return bool(config.model.moe.router == "top_k")


# Parts of the ledger whose matmuls `model.matmul` governs.
_PROJECTIONS = frozenset(
    {
        *(f"attention/{name}" for name in ("query", "key", "value", "out")),
        *(f"mlp/{name}" for name in ("gate", "up", "down")),
        "moe/shared",
    }
)

# Lengths from which attention is cut into blocks, and so takes another form, on a CPU
# (`models/attention.py`).
_SHORT, _BLOCK = 256, 128


def _shrunk(model: TransformerConfig, length: int) -> tuple[TransformerConfig, int]:
    """Two blocks of two heads; the length stays one for which attention takes the same form."""
    length = min(length, 16) if length <= _SHORT else min(length, 3 * _BLOCK)
    heads = min(model.heads, 2)
    small = replace(
        model,
        width=min(model.width, 16),
        depth=min(model.depth, 2),
        heads=heads,
        kv_heads=heads if model.kv_heads == model.heads else 1,
        head_dim=8,
        mlp_width=min(model.mlp_width or 24, 24),
        window=None if model.window is None else min(model.window, length // 2),
        dtype="float32",
    )
    return small, length


FAMILY = Family(
    config=TransformerConfig,
    module="scaling.families.transformer.network:Transformer",
    reads=frozenset({"tokens", "positions"}),
    gives=frozenset({"hidden", "head"}),
    resolve=resolve,
    scaled=_scaled,
    width_step=from_data.even_head_dim,
    rule=RULE,
    roles=_roles,
    stated=lambda model: None if model.vocab is None else {"vocab": model.vocab},
    size=lambda model, data: sizes.size(model, data.units_per_example),
    conventions=lambda model, data: sizes.flops_per_token(model, data.units_per_example),
    by_kind=lambda model, data: sizes.training_by_kind(model, data.units_per_example),
    axes=frozenset({"seq", "expert", "stage"}),
    pipeline=lambda model, stages: (
        model.pipeline_microbatches or stages,
        model.pipeline_repeats,
    ),
    eight_bits=lambda model: None if model.matmul == "default" else (model.matmul, _PROJECTIONS),
    shrunk=_shrunk,
    generate="scaling.families.transformer.generate:generate",
    reader="scaling.families.transformer.generate:reader",
    exchange="scaling.families.transformer.exchange:ARCHITECTURES",
    part=_part,
    readable=lambda model: replace(model, attention="blockwise"),
    remats=("none", "dots", "attention", "full"),
    causal=True,
    ranges=(
        (("heads", "kv_heads", "head_dim", "mlp_width", "window", "rope_length"), AT_LEAST_ONE),
        (("places",), AT_LEAST_ONE),
        (("pipeline_microbatches", "pipeline_repeats"), AT_LEAST_ONE),
        (("moe.per_token", "moe.width"), AT_LEAST_ONE),
        (("moe.experts", "moe.shared"), NOT_NEGATIVE),
        (("moe.capacity_factor",), POSITIVE_OR_OFF),
        (("rope_theta", "norm_eps", "rope_scaling.low"), POSITIVE),
        (("rope_scaling.factor", "rope_scaling.length"), AT_LEAST_ONE),
        (("dropout", "drop_path"), DECAY),
        (("logit_softcap",), POSITIVE_OR_OFF),
    ),
    idle=(
        (_WITHOUT_EXPERTS, _has_experts, "model.moe.experts"),
        (
            ("model.rope_theta", "model.rope_length", "model.rope_scaling.kind"),
            _turns,
            "model.positions=rope",
        ),
        (("model.rope_scaling.factor",), _scales, "model.rope_scaling.kind=linear or llama3"),
        (
            tuple(f"model.rope_scaling.{name}" for name in ("low", "high", "length")),
            _scales_some,
            "model.rope_scaling.kind=llama3",
        ),
        (("model.places",), _looks_up, "model.positions=learned"),
        (  # with expert_choice every expert has the same share: the penalty is a constant
            ("objective.load_balance",),
            _sends_tokens,
            "model.moe.router=top_k",
        ),
    ),
)

__all__ = ["FAMILY", "TransformerConfig", "resolve"]
