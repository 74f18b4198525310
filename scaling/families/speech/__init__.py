"""An acoustic model: log-mel bands, convolutions that make time coarser, an encoder, one matrix to
the logits of every place. Its config and its record.

Read without jax; the network is in `network.py`, its texts are found by `transcribe.py`.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from scaling.config.contracts import AT_LEAST_ONE, POSITIVE, SHARE, Facts, Family, Roles
from scaling.config.marks import added, execution, traced
from scaling.errors import ConfigError
from scaling.families import from_data

_HOPS = 100  # frames a second, of `models/mel.py`


@dataclass(frozen=True)
class SpeechModelConfig:
    """Convolutions and pre-norm blocks over the bands of a sound
    (`scaling/families/speech/network.py`).
    """

    family: Literal["speech"] = "speech"
    width: int = 64  # channels of the residual stream
    depth: int = 2  # blocks
    heads: int = 4
    head_dim: int | None = None  # channels a head; None: width / heads
    mlp: Literal["gated", "plain"] = "gated"  # SwiGLU, or GELU with one input matrix
    mlp_width: int | None = None  # hidden channels; None: as a transformer's
    qk_norm: bool = True  # RMSNorm of queries and keys, per head
    bands: int = 40  # of the mel scale
    subsampling: int = 2  # frames of 10 ms a place; a power of two: a convolution each halves time
    filters: int = 16  # channels of the convolutions
    sample_rate: int | None = None  # samples a second; None: what the data have
    vocab: int | None = None  # tokens of a transcript, the blank among them; None: the tokenizer's
    norm_eps: float = 1e-6  # added to the mean square in RMSNorm
    rope_theta: float = 10_000.0  # base of the rotary positions' wavelengths
    init_scale: float = traced(
        1.0, argument=False
    )  # of every matrix's initial std, over its default
    # Share, at most, of an utterance's bands and of its time that training hides, in two stripes
    # each (SpecAugment); 0: off
    spec_augment: float = added(0.0)
    dtype: Literal["float32", "bfloat16"] = (
        "float32"  # of activations and matmuls; parameters and bands stay float32
    )
    scan_layers: bool = execution(True)  # one compiled block, looped; False: unrolled
    remat: Literal["none", "dots", "full"] = execution(
        "none"
    )  # what the backward pass computes again (`scaling/models/remat.py`)


def _resolve(config: SpeechModelConfig, facts: Facts) -> SpeechModelConfig:
    """Rate, vocabulary and derived sizes filled in. Raises ConfigError."""
    if "sample_rate" not in facts.sizes:
        raise ConfigError("model.family=speech hears sounds; set data.kind to one that has them")
    rate = facts.sizes["sample_rate"]
    if config.sample_rate not in (None, rate):
        raise ConfigError(
            f"model.sample_rate={config.sample_rate}, but the data have {rate} samples a second; "
            "leave model.sample_rate unset"
        )
    if math.log2(config.subsampling) % 1:
        raise ConfigError(f"model.subsampling={config.subsampling} must be a power of two")
    there, place = facts.sizes["samples_per_token"], config.subsampling * rate / _HOPS
    if place > there:
        raise ConfigError(
            f"model.subsampling={config.subsampling} gives a place every {1000 * place / rate:.0f} "
            f"ms, but a transcript has a token every {1000 * there / rate:.0f} ms; lower it, or "
            "take that transcript out"
        )
    head_dim = from_data.head_dim(config)
    if head_dim % 2:
        raise ConfigError(f"model.head_dim={head_dim} must be even: positions turn pairs")
    return dataclasses.replace(
        config,
        sample_rate=rate,
        vocab=from_data.vocabulary(config, facts.sizes),
        head_dim=head_dim,
        mlp_width=from_data.mlp_width(config),
    )


def _scaled(config: SpeechModelConfig, width: int, depth: int) -> dict[str, Any]:
    """Heads of about as many channels as the config's; the convolutions stay as they are."""
    return {
        "model.width": width,
        "model.depth": depth,
        **from_data.even_heads(config, width),
        "model.mlp_width": config.mlp_width and -(-config.mlp_width * width // config.width),
    }


FAMILY = Family(
    config=SpeechModelConfig,
    module="scaling.families.speech.network:Network",
    reads=frozenset({"audio", "samples"}),
    gives=frozenset({"frame_logits", "frames"}),
    resolve=_resolve,
    scaled=_scaled,
    width_step=from_data.even_head_dim,
    roles=lambda config: Roles(
        attention=("query_norm",) if config.qk_norm else ("attention/query",)
    ),
    transcribe="scaling.families.speech.transcribe:transcribe",
    remats=("none", "dots", "full"),
    ranges=(
        (
            ("heads", "head_dim", "mlp_width", "bands", "subsampling", "filters", "sample_rate"),
            AT_LEAST_ONE,
        ),
        (("norm_eps", "rope_theta"), POSITIVE),
        (("spec_augment",), SHARE),
    ),
)

__all__ = ["FAMILY", "SpeechModelConfig"]
