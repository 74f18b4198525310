"""Convolutional networks for images, whose block is a field: their config and their record.

`plain` (VGG), `dense` (DenseNet), `inception` (GoogLeNet), `inverted` (MobileNetV2), `mbconv`
(EfficientNet), `shuffle` (ShuffleNetV2) and `convnext`; residual blocks of plain convolutions are
the family `resnet`. `table.py` reads a network's rows, `published.py` has those of papers,
`network.py` and `blocks.py` compute. Read without jax.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from scaling.config.contracts import AT_LEAST_ONE, DECAY, Facts, Family
from scaling.config.marks import added, execution, traced
from scaling.errors import ConfigError
from scaling.families import from_data
from scaling.families.convnet import table


@dataclass(frozen=True)
class ConvNetConfig:
    """A stem, rows of blocks, a head (`scaling/families/convnet/network.py`); on images one row
    high they convolve along it.
    """

    family: Literal["convnet"] = "convnet"
    block: Literal["plain", "dense", "inception", "inverted", "mbconv", "shuffle", "convnext"] = (
        "inverted"
    )
    width: int = 16  # channels of the stem; those of all other rows are in proportion
    depth: int = 1  # what the blocks of a row that names none are multiplied by
    stages: str | None = (
        None  # the rows, as "plain c16, c16 e4, c32 n2 s2 e4" (`table.py`); None: a small network
        # of the block, for images of 8 to 32 pixels
    )
    multiple: int = 2  # channels are rounded to it where `width` is not the stem's in `stages`
    activation: Literal["usual", "relu", "relu6", "silu", "gelu"] = (
        "usual"  # as published with the block: relu6 of inverted, silu of mbconv, gelu of convnext,
        # else relu
    )
    norm: Literal["usual", "group", "layer", "none"] = (
        "usual"  # layer of convnext, else group; none: convolutions have biases
    )
    group: int = 16  # channels of a group in GroupNorm: the number next to it that divides a layer
    hidden: int | None = (
        None  # units of two hidden layers that read all places; None: one matrix reads their mean
    )
    head_width: int | None = added(
        None
    )  # units of a hidden layer of the head, as of a projection that a loss compares; None: one
    # matrix
    dropout: float = 0.0  # share of the features before the head that training drops
    drop_path: float = (
        0.0  # share of the rows that pass by the last block's branch in training; earlier ones less
    )
    height: int | None = None  # pixels; None: what the data have, as the three below
    image_width: int | None = None  # pixels
    channels: int | None = None  # of an image
    classes: int | None = None  # outputs; the data's targets where they have no classes
    init_scale: float = traced(
        1.0, argument=False
    )  # of every kernel's and matrix's initial std, over its default
    dtype: Literal["float32", "bfloat16"] = (
        "float32"  # of activations and convolutions; parameters and norms stay float32
    )
    remat: Literal["none", "full"] = execution(
        "none"
    )  # full: the backward pass computes every block again


_ADDED = ("inverted", "mbconv", "convnext")  # blocks that are added to what they read
_ACTIVATION = {"inverted": "relu6", "mbconv": "silu", "convnext": "gelu"}


def _norm(config: Any) -> str:
    if config.norm != "usual":
        return str(config.norm)
    return "layer" if config.block == "convnext" else "group"


def _resolve(config: ConvNetConfig, facts: Facts) -> ConvNetConfig:
    """Image, classes, and what goes by the block. Raises ConfigError where the data have no images,
    or the rows are none of this width.
    """
    known: dict[str, Any] = from_data.image(config, facts.sizes, "reads images")
    known["classes"] = from_data.classes(config, facts.sizes)
    known["stages"] = config.stages or table.SMALL[config.block]
    if config.activation == "usual":
        known["activation"] = _ACTIVATION.get(config.block, "relu")
    known["norm"] = _norm(config)
    found = dataclasses.replace(config, **known)
    for row in table.rows(found):
        if row.block == "shuffle" and row.channels[0] % 2:
            raise ConfigError(
                f"model.stages={found.stages!r}: at model.width={config.width} a row of shuffle has"
                f" {row.channels[0]} channels, which have no two halves; give model.multiple=2"
            )
    return found


FAMILY = Family(
    config=ConvNetConfig,
    module="scaling.families.convnet.network:Network",
    reads=frozenset({"image"}),
    gives=frozenset({"out", "features"}),
    resolve=_resolve,
    stated=from_data.stated_image,
    remats=("none", "full"),
    ranges=(
        (("multiple", "group", "hidden", "head_width", *from_data.IMAGE, "classes"), AT_LEAST_ONE),
        (("dropout", "drop_path"), DECAY),
    ),
    idle=(
        (("model.group",), lambda config: _norm(config.model) == "group", "model.norm=group"),
        (
            ("model.drop_path",),
            lambda config: getattr(config.model, "block", None) in _ADDED,
            "model.block=inverted, mbconv or convnext",
        ),
    ),
)

__all__ = ["FAMILY", "ConvNetConfig"]
