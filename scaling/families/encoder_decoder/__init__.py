"""Encoder and decoder: reads a whole text, then writes another one token after the other. Its
config and its record.

Read without jax; the network is in `network.py`.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from scaling.config.contracts import AT_LEAST_ONE, DECAY, POSITIVE, Facts, Family, Roles
from scaling.config.marks import added, execution, traced
from scaling.errors import ConfigError
from scaling.families import from_data


@dataclass(frozen=True)
class EncoderDecoderConfig:
    """Pre-norm blocks over the source, and blocks over the target that also attend to what the
    first have made of it (`scaling/families/encoder_decoder/network.py`).
    """

    family: Literal["encoder_decoder"] = "encoder_decoder"
    width: int = 128  # channels of both residual streams
    depth: int = 2  # blocks of the decoder
    encoder_depth: int | None = None  # of the encoder; None: as many
    heads: int = 4
    head_dim: int | None = None  # channels a head; None: width / heads
    mlp: Literal["gated", "plain"] = "gated"  # SwiGLU, or GELU with one input matrix
    mlp_width: int | None = None  # hidden channels; None: as a transformer's
    positions: Literal["rotary", "sinusoidal", "relative"] = (
        "rotary"  # turned queries and keys; added to the embedding as in the original; or a learned
        # number for each distance and head, added to the scores (`scaling/models/relative.py`)
    )
    buckets: int = added(32)  # of relative positions: how many numbers a head has
    distance: int = added(128)  # of relative positions: the farthest that is told from others
    reading_positions: bool = added(
        False
    )  # of rotary ones: where the target reads the source, queries and keys are turned too
    pointer: bool = added(
        False
    )  # what is written may be a token of the source, where the model points, in the place of one
    # of the vocabulary (`scaling/families/encoder_decoder/pointer.py`)
    activation: Literal["usual", "relu", "silu", "gelu", "gelu_exact"] = added(
        "usual"
    )  # of MLPs; usual: silu of gated ones, else gelu, which is its approximation by tanh
    scale_scores: bool = added(True)  # divided by the root of a head's channels
    scale_head: bool = added(False)  # the logits are divided by the root of the width
    qk_norm: bool = True  # RMSNorm of queries and keys, per head
    vocab: int | None = None  # tokens; None: what the tokenizer has
    tie_embeddings: bool = True  # the output head is the embedding, transposed
    norm_eps: float = 1e-6  # added to the mean square in RMSNorm
    rope_theta: float = 10_000.0  # base of the wavelengths, rotary or not
    init_scale: float = traced(
        1.0, argument=False
    )  # of every matrix's and embedding's initial std, over its default
    dropout: float = added(
        0.0
    )  # share of both streams' first numbers, and of what each branch adds, that training drops
    dtype: Literal["float32", "bfloat16"] = (
        "float32"  # of activations and matmuls; parameters stay float32
    )
    scan_layers: bool = execution(True)  # one compiled block, looped; False: unrolled
    remat: Literal["none", "dots", "full"] = execution(
        "none"
    )  # what the backward pass computes again (`scaling/models/remat.py`)


def _resolve(config: EncoderDecoderConfig, facts: Facts) -> EncoderDecoderConfig:
    """Vocabulary and derived sizes filled in. Raises ConfigError."""
    head_dim = from_data.head_dim(config)
    if head_dim % 2 and config.positions == "rotary":
        raise ConfigError(f"model.head_dim={head_dim} must be even: positions turn pairs")
    if config.buckets % 4 or config.distance <= config.buckets // 2:
        raise ConfigError(
            f"model.buckets={config.buckets} must be a multiple of 4, and model.distance="
            f"{config.distance} more than half of it"
        )
    return dataclasses.replace(
        config,
        vocab=from_data.vocabulary(config, facts.sizes, padded=True),
        encoder_depth=config.encoder_depth or config.depth,
        head_dim=head_dim,
        mlp_width=from_data.mlp_width(config),
    )


def _scaled(config: EncoderDecoderConfig, width: int, depth: int) -> dict[str, Any]:
    """Heads of about as many channels as the config's; an encoder in proportion to the decoder.
    What the config leaves to `resolve` stays so.
    """
    encoder = config.encoder_depth
    return {
        "model.width": width,
        "model.depth": depth,
        "model.encoder_depth": encoder and max(1, round(encoder * depth / config.depth)),
        **from_data.even_heads(config, width),
        "model.mlp_width": config.mlp_width and -(-config.mlp_width * width // config.width),
    }


def _queries(config: EncoderDecoderConfig) -> tuple[str, ...]:
    return "attention/query", "reading/query", *(["pointer/query"] if config.pointer else [])


def _relative(config: Any) -> bool:
    return bool(config.model.positions == "relative")


def _rotary(config: Any) -> bool:
    return bool(config.model.positions == "rotary")


FAMILY = Family(
    config=EncoderDecoderConfig,
    module="scaling.families.encoder_decoder.network:Network",
    reads=frozenset({"source", "source_segments", "tokens", "positions"}),
    gives=frozenset({"hidden", "head"}),  # and `pointed`, with a pointer
    resolve=_resolve,
    scaled=_scaled,
    width_step=from_data.even_head_dim,
    roles=lambda config: Roles(
        outputs=("head",),
        tied=("final_norm",) if config.tie_embeddings else (),
        attention=("query_norm",) if config.qk_norm else _queries(config),
    ),
    stated=lambda model: None if model.vocab is None else {"vocab": model.vocab},
    exchange="scaling.families.encoder_decoder.exchange:ARCHITECTURES",
    translate="scaling.families.encoder_decoder.translate:translate",
    remats=("none", "dots", "full"),
    ranges=(
        (("encoder_depth", "heads", "head_dim", "mlp_width"), AT_LEAST_ONE),
        (("buckets", "distance"), AT_LEAST_ONE),
        (("norm_eps", "rope_theta"), POSITIVE),
        (("dropout",), DECAY),
    ),
    idle=(
        (("model.buckets", "model.distance"), _relative, "model.positions=relative"),
        (("model.reading_positions",), _rotary, "model.positions=rotary"),
    ),
)

__all__ = ["FAMILY", "EncoderDecoderConfig"]
