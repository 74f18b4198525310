"""Vision transformers: their config, their size, their record.

Read without jax; the network is in `network.py`.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from scaling.config.amounts import resolved
from scaling.config.contracts import AT_LEAST_ONE, DECAY, POSITIVE, Facts, Family, Roles, Size
from scaling.config.marks import added, execution, traced
from scaling.families import from_data
from scaling.models.fields import EncoderConfig


@dataclass(frozen=True)
class ViTConfig:
    """Patches of an image as places of an encoder (`scaling/families/vit/network.py`)."""

    family: Literal["vit"] = "vit"
    width: int = 64  # channels of the residual stream
    depth: int = 4  # blocks
    heads: int = 4
    head_dim: int | None = None  # channels a head; None: width / heads
    mlp_width: int | None = None  # hidden channels; None: 4 width
    patch: int = 2  # side of a patch, pixels; no higher than the image
    pool: Literal["class", "mean"] = (
        "class"  # what is read out: a place of its own, or the mean over the patches
    )
    positions: Literal["learned", "none"] = "learned"  # none: an image is a set of patches
    height: int | None = None  # pixels; None: what the data have, as the three below
    image_width: int | None = None  # pixels
    channels: int | None = None  # of an image
    classes: int | None = None  # outputs; the data's targets where they have no classes
    activation: Literal["gelu", "gelu_exact", "relu", "silu"] = added(
        "gelu"
    )  # of MLPs; gelu: its approximation by tanh
    norm_eps: float = 1e-6  # added to the variance in LayerNorm
    init_scale: float = traced(
        1.0, argument=False
    )  # of every matrix's initial std, over its default
    dropout: float = added(
        0.0
    )  # share of the stream's first numbers, and of what each branch adds, that training drops
    drop_path: float = added(
        0.0
    )  # share of the rows that pass by the last block's branches in training; earlier ones less
    dtype: Literal["float32", "bfloat16"] = (
        "float32"  # of activations and matmuls; parameters stay float32
    )
    attention: Literal["auto", "plain"] = execution(
        "auto"
    )  # auto: cudnn on a GPU where the shape allows; plain: all scores at once
    pipeline_microbatches: int | None = execution(
        None
    )  # pieces of the batch in the pipeline over mesh.stage; None: as many as stages
    scan_layers: bool = execution(True)  # one compiled block, looped; False: unrolled
    remat: Literal["none", "dots", "attention", "full"] = execution(
        "none"
    )  # what the backward pass computes again (`scaling/models/remat.py`)


def encoder(config: ViTConfig) -> EncoderConfig:
    """The blocks of a resolved model."""
    return EncoderConfig(
        width=config.width,
        depth=config.depth,
        heads=config.heads,
        kv_heads=config.heads,
        head_dim=config.head_dim,
        mlp="plain",
        mlp_width=config.mlp_width,
        positions="none",
        qk_norm=False,
        norm_eps=config.norm_eps,
        activation=config.activation,
        dropout=config.dropout,
        drop_path=config.drop_path,
        dtype=config.dtype,
        attention="auto" if config.attention == "auto" else "blockwise",
        pipeline_microbatches=config.pipeline_microbatches,
        scan_layers=config.scan_layers,
        remat=config.remat,
    )


def places(config: ViTConfig) -> int:
    """Of the sequence: the patches, and the class's own place."""
    return from_data.patches(config)[0] + (config.pool == "class")


def _resolve(config: ViTConfig, facts: Facts) -> ViTConfig:
    """Image, classes, heads and MLPs. Raises ConfigError where the data have none, or none
    divides.
    """
    known = from_data.image(config, facts.sizes, "reads images")
    known["classes"] = from_data.classes(config, facts.sizes)
    known["head_dim"] = from_data.head_dim(config)
    known["mlp_width"] = config.mlp_width or 4 * config.width
    found = dataclasses.replace(config, **known)
    from_data.patch_sides(found)
    return found


def _scaled(config: ViTConfig, width: int, depth: int) -> dict[str, Any]:
    """Heads of about as many channels as the config's, MLPs in proportion."""
    wanted = config.head_dim or max(1, config.width // config.heads)
    head_dim = from_data.nearest(from_data.divisors(width), wanted)
    mlp = config.mlp_width and max(1, round(config.mlp_width * width / config.width))
    return {
        "model.width": width,
        "model.depth": depth,
        "model.heads": width // head_dim,
        "model.head_dim": head_dim,
        "model.mlp_width": mlp,
    }


def size(config: ViTConfig) -> Size:
    """Parameters and training FLOPs an image of a resolved model, exactly: 3 times the forward
    pass's matmuls.
    """
    width, depth, mlp = config.width, config.depth, resolved(config.mlp_width)
    inner, length = config.heads * resolved(config.head_dim), places(config)
    (patches, numbers), classes = from_data.patches(config), resolved(config.classes)
    into, head = numbers * width, width * classes
    matrices = 4 * width * inner + 2 * width * mlp
    biases = 3 * inner + width + mlp + width
    block = matrices + biases + 4 * width  # two norms of a scale and a bias
    own = (config.pool == "class") * width + (config.positions == "learned") * length * width
    params = into + width + own + depth * block + 2 * width + head + classes
    scores = 2 * length * length * inner
    forward = patches * into + depth * (length * matrices + scores) + head
    return Size(params, params, params, 3 * 2.0 * forward)


def _roles(config: ViTConfig) -> Roles:
    return Roles(
        attention=("attention/query",),
        blocks=("blocks",),
        branches=("attention/out", "mlp/down"),
        branch_init=-0.5,
    )


def _part(config: ViTConfig, mesh: Mapping[str, int]) -> ViTConfig:
    """What one device of a mesh computes: its heads, channels and blocks."""
    return dataclasses.replace(
        config,
        depth=-(-config.depth // mesh["stage"]),
        heads=-(-config.heads // mesh["tensor"]),
        mlp_width=math.ceil(resolved(config.mlp_width) / mesh["tensor"]),
    )


_SIZES = ("heads", "head_dim", "mlp_width", "patch", "pipeline_microbatches")

FAMILY = Family(
    config=ViTConfig,
    module="scaling.families.vit.network:Network",
    reads=frozenset({"image"}),
    gives=frozenset({"out", "features"}),
    resolve=_resolve,
    scaled=_scaled,
    width_step=lambda config: config.head_dim or max(1, config.width // config.heads),
    roles=_roles,
    stated=from_data.stated_image,
    size=lambda config, data: size(config),
    exchange="scaling.families.vit.exchange:ARCHITECTURES",
    axes=frozenset({"stage"}),
    pipeline=lambda config, stages: (config.pipeline_microbatches or stages, 1),
    part=_part,
    readable=lambda config: dataclasses.replace(config, attention="plain"),
    remats=("none", "dots", "attention", "full"),
    ranges=(
        ((*_SIZES, *from_data.IMAGE, "classes"), AT_LEAST_ONE),
        (("norm_eps",), POSITIVE),
        (("dropout", "drop_path"), DECAY),
    ),
)

__all__ = ["FAMILY", "ViTConfig", "encoder", "places", "size"]
