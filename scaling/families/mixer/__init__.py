"""MLP-Mixers: their config, their size, their record.

Read without jax; the network is in `network.py`.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from scaling.config.amounts import resolved
from scaling.config.contracts import AT_LEAST_ONE, DECAY, POSITIVE, Facts, Family, Roles, Size
from scaling.config.marks import added, execution, traced
from scaling.families import from_data


@dataclass(frozen=True)
class MixerConfig:
    """MLPs across the patches of an image and across their channels, by turns
    (`scaling/families/mixer/network.py`).
    """

    family: Literal["mixer"] = "mixer"
    width: int = 64  # channels of the residual stream
    depth: int = 4  # blocks of two MLPs
    token_width: int | None = None  # hidden units across the patches; None: width / 2
    mlp_width: int | None = None  # hidden channels; None: 4 width
    patch: int = 2  # side of a patch, pixels; no higher than the image
    height: int | None = None  # pixels; None: what the data have, as the three below
    image_width: int | None = None  # pixels
    channels: int | None = None  # of an image
    classes: int | None = None  # outputs; the data's targets where they have no classes
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
    scan_layers: bool = execution(True)  # one compiled block, looped; False: unrolled
    remat: Literal["none", "dots", "full"] = execution(
        "none"
    )  # what the backward pass computes again (`scaling/models/remat.py`)


def _resolve(config: MixerConfig, facts: Facts) -> MixerConfig:
    """Image, classes and MLPs. Raises ConfigError where the data have none, or patches do not
    divide the image.
    """
    known = from_data.image(config, facts.sizes, "reads images")
    known["classes"] = from_data.classes(config, facts.sizes)
    known["token_width"] = config.token_width or max(1, config.width // 2)
    known["mlp_width"] = config.mlp_width or 4 * config.width
    found = dataclasses.replace(config, **known)
    from_data.patch_sides(found)
    return found


def _scaled(config: MixerConfig, width: int, depth: int) -> dict[str, Any]:
    """Both MLPs in proportion."""
    fields: dict[str, Any] = {"model.width": width, "model.depth": depth}
    for name in ("token_width", "mlp_width"):
        own = getattr(config, name)
        fields[f"model.{name}"] = own and max(1, round(own * width / config.width))
    return fields


def size(config: MixerConfig) -> Size:
    """Parameters and training FLOPs an image of a resolved model, exactly: 3 times the forward
    pass's matmuls.
    """
    width, depth = config.width, config.depth
    tokens, channels = resolved(config.token_width), resolved(config.mlp_width)
    (patches, numbers), classes = from_data.patches(config), resolved(config.classes)
    into, head = numbers * width, width * classes
    across, along = 2 * patches * tokens, 2 * width * channels
    biases = tokens + patches + channels + width
    block = across + along + biases + 4 * width  # two norms of a scale and a bias
    params = into + width + depth * block + 2 * width + head + classes
    forward = patches * into + depth * (width * across + patches * along) + head
    return Size(params, params, params, 3 * 2.0 * forward)


FAMILY = Family(
    config=MixerConfig,
    module="scaling.families.mixer.network:Network",
    reads=frozenset({"image"}),
    gives=frozenset({"out", "features"}),
    resolve=_resolve,
    scaled=_scaled,
    roles=lambda config: Roles(
        blocks=("blocks",), branches=("tokens/down", "channels/down"), branch_init=-0.5
    ),
    stated=from_data.stated_image,
    size=lambda config, data: size(config),
    remats=("none", "dots", "full"),
    ranges=(
        (("token_width", "mlp_width", "patch", *from_data.IMAGE, "classes"), AT_LEAST_ONE),
        (("norm_eps",), POSITIVE),
        (("dropout", "drop_path"), DECAY),
    ),
)

__all__ = ["FAMILY", "MixerConfig", "size"]
