"""What the configs of several families fill in from the data, and from their own width. No jax in
this file. Called by the `resolve` and `scaled` of families.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from scaling.config.amounts import resolved
from scaling.errors import ConfigError

IMAGE = ("height", "image_width", "channels")


def vocabulary(model: Any, sizes: Mapping[str, int], padded: bool = False) -> int:
    """Tokens that there are, or that the config says: of a `padded` table some may be no tokens.
    Raises ConfigError where the config says another number.
    """
    vocab = sizes["vocab"]
    if model.vocab in (None, vocab) or (padded and model.vocab > vocab):
        return int(model.vocab or vocab)
    raise ConfigError(
        f"model.vocab={model.vocab}, but the tokenizer has {vocab} tokens; leave model.vocab unset"
    )


def image(model: Any, sizes: Mapping[str, int], does: str) -> dict[str, Any]:
    """The fields `IMAGE`, by the data. Raises ConfigError where these have no images, with what
    the family `does` with them ("reads images"), or where the config says others.
    """
    known: dict[str, Any] = {}
    for name in IMAGE:
        if name not in sizes:
            raise ConfigError(
                f"model.family={model.family} {does}; set data.kind to one that has them"
            )
        known[name] = as_there(model, name, sizes[name])
    return known


def as_there(model: Any, name: str, there: Any) -> Any:
    """What the data have of a field. Raises ConfigError where the config says another value."""
    if getattr(model, name) not in (None, there):
        raise ConfigError(
            f"model.{name}={getattr(model, name)}, but the data have {there}; leave model.{name} "
            "unset"
        )
    return there


def classes(model: Any, sizes: Mapping[str, int]) -> int:
    """Outputs: those of the config, else the data's classes, or targets where they have none.
    Raises ConfigError where they have neither.
    """
    found = model.classes or sizes.get("classes") or sizes.get("targets")
    if not found:
        raise ConfigError("model.classes: the data have no classes and no targets; give it")
    return int(found)


def patch_sides(model: Any) -> tuple[int, int]:
    """Height and width in pixels of the patches of a resolved model: squares, but no higher than
    the image, which may be one row. Raises ConfigError where they do not cover the image exactly.
    """
    sides = resolved(model.height), resolved(model.image_width)
    patch = min(model.patch, sides[0]), model.patch
    if sides[0] % patch[0] or sides[1] % patch[1]:
        raise ConfigError(
            f"model.patch={model.patch} does not divide images of {sides[0]} x {sides[1]} pixels; "
            "give a side that does"
        )
    return patch


def patches(model: Any) -> tuple[int, int]:
    """(how many patches an image has, numbers of one) of a resolved model."""
    height, width = patch_sides(model)
    count = resolved(model.height) // height * (resolved(model.image_width) // width)
    return count, height * width * resolved(model.channels)


def stated_image(model: Any) -> dict[str, int] | None:
    """`Family.stated` of a model of images with classes."""
    sizes = {name: getattr(model, name) for name in (*IMAGE, "classes")}
    return None if None in sizes.values() else sizes


def head_dim(model: Any) -> int:
    """Channels a head: those of the config, else the width's share. Raises ConfigError where the
    heads do not divide the width.
    """
    if model.head_dim is None and model.width % model.heads:
        raise ConfigError(
            f"model.width={model.width} is not divisible by model.heads={model.heads}; change "
            "either, or give model.head_dim"
        )
    return int(model.head_dim or model.width // model.heads)


def even_head_dim(model: Any) -> int:
    """Channels of a head about as a config has them, be they even or not stated, for a width that
    is yet to be chosen; at least a pair.
    """
    return int(model.head_dim or max(2, model.width // model.heads))


def even_heads(model: Any, width: int) -> dict[str, Any]:
    """Heads of a model of another width, each of an even number of channels, about as many as in
    the config. Raises ConfigError for a width that has no pairs.
    """
    if width < 2 or width % 2:
        raise ConfigError(f"model.width={width} must be even and positive: heads need pairs")
    even = [k for k in divisors(width) if k % 2 == 0]
    channels = nearest(even, even_head_dim(model))
    return {"model.heads": width // channels, "model.head_dim": channels}


def towers(model: Any, sizes: Mapping[str, int]) -> dict[str, Any]:
    """What readers of an image and of a text (`models/tower_fields.py`) take from the data. Raises
    ConfigError.
    """
    known = image(model, sizes, "reads images with texts")
    known["vocab"] = vocabulary(model, sizes)
    known["head_dim"] = head_dim(model)
    if known["head_dim"] % 2:
        raise ConfigError(f"model.head_dim={known['head_dim']} must be even: positions turn pairs")
    known["mlp_width"] = mlp_width(model)
    patch_sides(dataclasses.replace(model, **known))
    return known


def scaled_towers(model: Any, width: int, depth: int) -> dict[str, Any]:
    """`Family.scaled` of the same: heads of about as many channels, MLPs in proportion."""
    return {
        "model.width": width,
        "model.depth": depth,
        **even_heads(model, width),
        "model.mlp_width": model.mlp_width and -(-model.mlp_width * width // model.width),
    }


def mlp_width(model: Any) -> int:
    """Hidden channels of a block's MLP: those of the config, else 4 widths, or for a gated one 8/3,
    which is as many parameters, rounded up to 16.
    """
    usual = 4 * model.width if model.mlp == "plain" else -(-8 * model.width // 48) * 16
    return int(model.mlp_width or usual)


def norm_group(model: Any) -> int:
    """Channels of a group in GroupNorm: those of the config, else the divisor of its width nearest
    to 16. Raises ConfigError where they do not divide the width.
    """
    if model.group is not None and model.width % model.group:
        raise ConfigError(
            f"model.width={model.width} is not divisible by model.group={model.group}; change "
            "either, or leave model.group unset"
        )
    return int(model.group or nearest(divisors(model.width), 16))


def scaled_in_groups(model: Any, width: int, depth: int) -> dict[str, Any]:
    """`Family.scaled` of a model with GroupNorm: a group that does not divide the new width gives
    way to one that does.
    """
    fields = {"model.width": width, "model.depth": depth}
    if model.group is not None and width % model.group:
        fields["model.group"] = nearest(divisors(width), model.group)
    return fields


def divisors(number: int) -> list[int]:
    """Ascending."""
    return [n for n in range(1, number + 1) if number % n == 0]


def nearest(numbers: Sequence[int], wanted: float) -> int:
    """The number nearest to the one wanted, by their ratio."""
    return min(numbers, key=lambda n: abs(math.log(n / wanted)))
