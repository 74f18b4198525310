"""Encoder and decoder: reads a whole text, then writes another one token after the other. Its
config and its record.

Read without jax; the network is in `network.py`.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from scaling.config.choices import AT_LEAST_ONE, POSITIVE, Facts, Family, Roles
from scaling.config.marks import execution, traced
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
    positions: Literal["rotary", "sinusoidal"] = (
        "rotary"  # turned queries and keys, or added to the embedding as in the original
    )
    qk_norm: bool = True  # RMSNorm of queries and keys, per head
    vocab: int | None = None  # tokens; None: what the tokenizer has
    tie_embeddings: bool = True  # the output head is the embedding, transposed
    norm_eps: float = 1e-6  # added to the mean square in RMSNorm
    rope_theta: float = 10_000.0  # base of the wavelengths, rotary or not
    init_scale: float = traced(
        1.0, argument=False
    )  # of every matrix's and embedding's initial std, over its default
    dtype: Literal["float32", "bfloat16"] = (
        "float32"  # of activations and matmuls; parameters stay float32
    )
    scan_layers: bool = execution(True)  # one compiled block, looped; False: unrolled
    remat: Literal["none", "dots", "full"] = execution(
        "none"
    )  # what the backward pass computes again (`scaling/models/remat.py`)


def _resolve(config: EncoderDecoderConfig, facts: Facts) -> EncoderDecoderConfig:
    """Vocabulary and derived sizes filled in. Raises ConfigError."""
    if config.head_dim is None and config.width % config.heads:
        raise ConfigError(
            f"model.width={config.width} is not divisible by model.heads={config.heads}; change "
            "either, or give model.head_dim"
        )
    head_dim = config.head_dim or config.width // config.heads
    if head_dim % 2:
        raise ConfigError(f"model.head_dim={head_dim} must be even: positions turn pairs")
    default_mlp = 4 * config.width if config.mlp == "plain" else -(-8 * config.width // 48) * 16
    return dataclasses.replace(
        config,
        vocab=from_data.vocabulary(config, facts.sizes),
        encoder_depth=config.encoder_depth or config.depth,
        head_dim=head_dim,
        mlp_width=config.mlp_width or default_mlp,
    )


def _scaled(config: EncoderDecoderConfig, width: int, depth: int) -> dict[str, Any]:
    """Heads of about as many channels as the config's; an encoder in proportion to the decoder.
    What the config leaves to `resolve` stays so.
    """
    if width < 2 or width % 2:
        raise ConfigError(f"model.width={width} must be even and positive: heads need pairs")
    even = [k for k in from_data.divisors(width) if k % 2 == 0]
    head_dim = from_data.nearest(even, _head_dim(config))
    encoder = config.encoder_depth
    return {
        "model.width": width,
        "model.depth": depth,
        "model.encoder_depth": encoder and max(1, round(encoder * depth / config.depth)),
        "model.heads": width // head_dim,
        "model.head_dim": head_dim,
        "model.mlp_width": config.mlp_width and -(-config.mlp_width * width // config.width),
    }


def _head_dim(config: EncoderDecoderConfig) -> int:
    return config.head_dim or max(2, config.width // config.heads)


FAMILY = Family(
    config=EncoderDecoderConfig,
    module="scaling.families.encoder_decoder.network:Network",
    reads=frozenset({"source", "source_segments", "tokens", "positions"}),
    gives=frozenset({"hidden", "head"}),
    resolve=_resolve,
    scaled=_scaled,
    width_step=_head_dim,
    roles=lambda config: Roles(
        outputs=("head",),
        tied=("final_norm",) if config.tie_embeddings else (),
        attention=("query_norm",) if config.qk_norm else ("attention/query", "reading/query"),
    ),
    stated=lambda model: None if model.vocab is None else {"vocab": model.vocab},
    translate="scaling.families.encoder_decoder.translate:translate",
    remats=("none", "dots", "full"),
    ranges=(
        (("encoder_depth", "heads", "head_dim", "mlp_width"), AT_LEAST_ONE),
        (("norm_eps", "rope_theta"), POSITIVE),
    ),
)

__all__ = ["FAMILY", "EncoderDecoderConfig"]
