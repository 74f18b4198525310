"""Residual networks for images: their config, their size, their record.

Read without jax; the network is in `network.py`.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from scaling.config.amounts import resolved
from scaling.config.contracts import AT_LEAST_ONE, DECAY, Facts, Family, Roles, Size
from scaling.config.marks import added, execution, traced
from scaling.errors import ConfigError
from scaling.families import from_data


@dataclass(frozen=True)
class ResNetConfig:
    """Stages of residual blocks (`scaling/families/resnet/network.py`); on images one row high they
    convolve along it.
    """

    family: Literal["resnet"] = "resnet"
    width: int = 32  # channels of the first stage; every later stage has twice as many
    depth: int = 2  # blocks of a stage
    stages: str = "1-1-1"  # what depth is multiplied by, stage after stage: 3-4-6-3 is ResNet-50
    block: Literal["basic", "bottleneck"] = (
        "basic"  # 3x3, 3x3; or 1x1, 3x3, 1x1 to four times the channels
    )
    order: Literal["pre", "post"] = (
        "pre"  # norm and ReLU stand before each convolution (He et al. 2016); post: behind (2015)
    )
    stem: Literal["small", "large"] = (
        "small"  # 3x3; large: 7x7 at stride 2 and a pool at stride 2, for images of 100 or more
    )
    norm: Literal["group", "frozen"] = added(
        "group"
    )  # frozen: batch norm with statistics that came with the weights and stay as they are
    padding: Literal["same", "centred"] = added(
        "same"
    )  # what fills up an image at strides: one place more behind it; or, as elsewhere, none
    group: int | None = (
        None  # channels of a group in GroupNorm; None: the divisor of width nearest to 16
    )
    zero_init: bool = False  # every block begins as the identity
    dropout: float = added(0.0)  # share of the features before the head that training drops
    drop_path: float = added(
        0.0
    )  # share of the rows that pass by the last block's branch in training; earlier ones less
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
    scan_layers: bool = execution(True)  # one compiled block a stage, looped; False: unrolled
    remat: Literal["none", "full"] = execution(
        "none"
    )  # full: the backward pass computes every block again


def blocks(config: ResNetConfig) -> tuple[int, ...]:
    """Blocks of each stage. Raises ConfigError for what is no list of numbers."""
    parts = config.stages.split("-")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ConfigError(
            f"model.stages={config.stages!r} must be positive numbers with - between them, such as "
            "1-1-1"
        )
    return tuple(config.depth * int(part) for part in parts)


def sides(config: ResNetConfig, kernel: int) -> tuple[int, int]:
    """Height and width of a kernel: squares, but for images one row high, which are signals."""
    return (1 if config.height == 1 else kernel), kernel


def convolutions(config: ResNetConfig, stage: int, first: bool) -> list[tuple[int, int, int]]:
    """(kernel, channels, stride) of each convolution of a block's branch, in order."""
    channels = config.width * 2**stage
    stride = 2 if first and stage else 1
    if config.block == "basic":
        return [(3, channels, stride), (3, channels, 1)]
    return [(1, channels, 1), (3, channels, stride), (1, 4 * channels, 1)]


def _resolve(config: ResNetConfig, facts: Facts) -> ResNetConfig:
    """Image, classes and groups. Raises ConfigError where the data have none, or none divides."""
    blocks(config)
    known = from_data.image(config, facts.sizes, "reads images")
    known["classes"] = from_data.classes(config, facts.sizes)
    if config.norm == "group":
        known["group"] = from_data.norm_group(config)
    return dataclasses.replace(config, **known)


def size(config: ResNetConfig) -> Size:
    """Parameters and training FLOPs an image of a resolved model, exactly.

    FLOPs are of multiplications with places inside the image, not with those that fill it up at its
    edges. Training is 3 times the forward pass, but for the stem, whose input has no gradient.
    """
    place = resolved(config.height), resolved(config.image_width)
    params, flops = 0, 0.0
    normed = 4 if config.norm == "frozen" else 2  # numbers a channel
    centred = config.padding == "centred"

    def convolution(kernel: int, read: int, made: int, stride: int, passes: int = 3) -> None:
        nonlocal params, flops
        of_kernel = sides(config, kernel)
        params += math.prod(of_kernel) * read * made
        pairs = zip(place, of_kernel, strict=True)
        reads = math.prod(_reads(pixels, side, stride, centred) for pixels, side in pairs)
        flops += passes * 2.0 * reads * read * made

    def halved(by: int) -> tuple[int, int]:
        return -(-place[0] // by), -(-place[1] // by)

    channels = config.width
    kernel, stride = (3, 1) if config.stem == "small" else (7, 2)
    convolution(kernel, resolved(config.channels), channels, stride, passes=2)
    place = halved(stride)
    if config.stem == "large":
        place = halved(2)
    pre = config.order == "pre"
    params += 0 if pre else normed * channels
    for stage, count in enumerate(blocks(config)):
        for number in range(count):
            branch = convolutions(config, stage, number == 0)
            made, strides = branch[-1][1], max(stride for _, _, stride in branch)
            if (made, strides) != (channels, 1):
                convolution(1, channels, made, strides)
                params += 0 if pre else normed * made
            read = channels
            for kernel, inner, stride in branch:
                convolution(kernel, read, inner, stride)
                params += normed * (read if pre else inner)
                place, read = halved(stride), inner
            channels = made
    params += normed * channels if pre else 0
    head = channels * resolved(config.classes)
    params += head + resolved(config.classes)
    return Size(params, params, params, flops + 3 * 2.0 * head)


def _reads(pixels: int, kernel: int, stride: int, centred: bool) -> int:
    """Along one side of the image: (place made, place read) pairs with the second inside it."""
    made = -(-pixels // stride)
    before = kernel // 2 if centred else max((made - 1) * stride + kernel - pixels, 0) // 2
    first = [place * stride - before for place in range(made)]
    return sum(min(at + kernel, pixels) - max(at, 0) for at in first)


def _roles(config: ResNetConfig) -> Roles:
    """A branch ends in a convolution, or in the norm behind it."""
    last = len(convolutions(config, 0, False)) - 1
    ends = f"conv{last}" if config.order == "pre" else f"norm{last}"
    return Roles(blocks=("stage*",), branches=(ends,))


def _in_groups(config: Any) -> bool:
    return bool(config.model.norm == "group")


FAMILY = Family(
    config=ResNetConfig,
    module="scaling.families.resnet.network:Network",
    reads=frozenset({"image"}),
    gives=frozenset({"out", "features"}),
    resolve=_resolve,
    scaled=from_data.scaled_in_groups,
    roles=_roles,
    width_step=lambda config: config.group or 8,
    stated=from_data.stated_image,
    size=lambda config, data: size(config),
    exchange="scaling.families.resnet.exchange:ARCHITECTURES",
    remats=("none", "full"),
    ranges=(
        (("group", "height", "image_width", "channels", "classes"), AT_LEAST_ONE),
        (("dropout", "drop_path"), DECAY),
    ),
    idle=((("model.group",), _in_groups, "model.norm=group"),),
)

__all__ = ["FAMILY", "ResNetConfig", "blocks", "convolutions", "sides", "size"]
