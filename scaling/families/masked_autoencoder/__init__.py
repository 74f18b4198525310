"""Masked autoencoders: a vision transformer that sees a part of the patches, and a small decoder
that predicts the others. Their config and their record.

Read without jax; the network is in `network.py`. The encoder's parameters have the names of a
`vit`'s of the same fields, which can begin from a run of it.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from scaling.config.amounts import resolved
from scaling.config.contracts import AT_LEAST_ONE, DECAY, POSITIVE, WITHIN, Facts, Family, Roles
from scaling.config.marks import execution, traced
from scaling.errors import ConfigError
from scaling.families import from_data
from scaling.models.fields import EncoderConfig


@dataclass(frozen=True)
class MaskedAutoencoderConfig:
    """An encoder of the patches that are seen, a decoder of all
    (`scaling/families/masked_autoencoder/network.py`).
    """

    family: Literal["masked_autoencoder"] = "masked_autoencoder"
    width: int = 64  # channels of the encoder's residual stream
    depth: int = 4  # blocks of the encoder
    heads: int = 4  # of the encoder, and of the decoder
    head_dim: int | None = None  # channels a head of the encoder; None: width / heads
    mlp_width: int | None = None  # hidden channels of the encoder; None: 4 width
    decoder_width: int | None = None  # channels of the decoder; None: width / 2, whole heads
    decoder_depth: int = 1  # blocks of the decoder
    masked: float = 0.75  # share of the patches that the encoder does not see
    patch: int = 2  # side of a patch, pixels; no higher than the image
    pool: Literal["class", "mean"] = (
        "mean"  # what `features` are: a place of its own, or the mean over the patches
    )
    positions: Literal["learned", "none"] = "learned"  # of the encoder; the decoder's are learned
    height: int | None = None  # pixels; None: what the data have, as the two below
    image_width: int | None = None  # pixels
    channels: int | None = None  # of an image
    norm_eps: float = 1e-6  # added to the variance in LayerNorm
    init_scale: float = traced(
        1.0, argument=False
    )  # of every matrix's initial std, over its default
    dropout: float = 0.0  # as of a vit, in the encoder
    drop_path: float = 0.0  # likewise
    dtype: Literal["float32", "bfloat16"] = (
        "float32"  # of activations and matmuls; parameters stay float32
    )
    attention: Literal["auto", "plain"] = execution(
        "auto"
    )  # auto: cudnn on a GPU where the shape allows; plain: all scores at once
    pipeline_microbatches: int | None = execution(None)  # there is no pipeline
    scan_layers: bool = execution(True)  # one compiled block, looped; False: unrolled
    remat: Literal["none", "dots", "attention", "full"] = execution(
        "none"
    )  # what the backward pass computes again (`scaling/models/remat.py`)

    @property
    def activation(self) -> Literal["gelu"]:
        """Of the encoder's MLPs, as the blocks of a vit ask for it; not a choice here."""
        return "gelu"


def decoder(config: MaskedAutoencoderConfig) -> EncoderConfig:
    """The decoder's blocks, of a resolved model."""
    width = resolved(config.decoder_width)
    return EncoderConfig(
        width=width,
        depth=config.decoder_depth,
        heads=config.heads,
        kv_heads=config.heads,
        head_dim=width // config.heads,
        mlp="plain",
        mlp_width=4 * width,
        positions="none",
        qk_norm=False,
        norm_eps=config.norm_eps,
        dtype=config.dtype,
        attention="auto" if config.attention == "auto" else "blockwise",
        scan_layers=config.scan_layers,
        remat=config.remat,
    )


def kept(config: MaskedAutoencoderConfig) -> int:
    """Patches of an image that the encoder sees: at least one, and not all."""
    count = from_data.patches(config)[0]
    return min(max(1, round((1 - config.masked) * count)), count - 1)


def _resolve(config: MaskedAutoencoderConfig, facts: Facts) -> MaskedAutoencoderConfig:
    """Image, heads, MLPs and the decoder's width. Raises ConfigError where the data have none, or
    none divides.
    """
    known = from_data.image(config, facts.sizes, "reads images")
    known["head_dim"] = from_data.head_dim(config)
    known["mlp_width"] = config.mlp_width or 4 * config.width
    usual = max(1, round(config.width / 2 / config.heads)) * config.heads
    known["decoder_width"] = config.decoder_width or usual
    if known["decoder_width"] % config.heads:
        raise ConfigError(
            f"model.decoder_width={config.decoder_width} is not divisible by model.heads="
            f"{config.heads}; change either, or leave model.decoder_width unset"
        )
    found = dataclasses.replace(config, **known)
    if from_data.patches(found)[0] < 2:
        raise ConfigError(
            f"model.patch={config.patch} leaves one patch of an image, and nothing to mask; give a "
            "smaller one"
        )
    return found


def _scaled(config: MaskedAutoencoderConfig, width: int, depth: int) -> dict[str, Any]:
    """Heads of about as many channels as the config's, MLPs and decoder in proportion."""
    wanted = config.head_dim or max(1, config.width // config.heads)
    head_dim = from_data.nearest(from_data.divisors(width), wanted)
    heads = width // head_dim
    fields: dict[str, Any] = {"model.width": width, "model.depth": depth}
    fields |= {"model.heads": heads, "model.head_dim": head_dim}
    mlp, inner = config.mlp_width, config.decoder_width
    fields["model.mlp_width"] = mlp and max(1, round(mlp * width / config.width))
    inner = inner and max(1, round(inner * width / config.width / heads)) * heads
    return fields | {"model.decoder_width": inner}


FAMILY = Family(
    config=MaskedAutoencoderConfig,
    module="scaling.families.masked_autoencoder.network:Network",
    reads=frozenset({"image"}),
    gives=frozenset({"features", "patches", "cut", "masked"}),
    resolve=_resolve,
    scaled=_scaled,
    width_step=lambda config: config.head_dim or max(1, config.width // config.heads),
    roles=lambda config: Roles(
        attention=("attention/query",),
        blocks=("blocks",),
        branches=("attention/out", "mlp/down"),
        branch_init=-0.5,
    ),
    readable=lambda config: dataclasses.replace(config, attention="plain"),
    remats=("none", "dots", "attention", "full"),
    ranges=(
        (("heads", "head_dim", "mlp_width", "decoder_width", "decoder_depth"), AT_LEAST_ONE),
        (("patch", *from_data.IMAGE), AT_LEAST_ONE),
        (("masked",), WITHIN),
        (("norm_eps",), POSITIVE),
        (("dropout", "drop_path"), DECAY),
    ),
)

__all__ = ["FAMILY", "MaskedAutoencoderConfig", "decoder", "kept"]
