"""A generator of images and a discriminator that scores them: their config, their record.

Two sub-trees of parameters, "generator" and "discriminator", which an objective with two players
trains against each other. Read without jax; the networks are in `network.py`.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from scaling.config.amounts import resolved
from scaling.config.contracts import AT_LEAST_ONE, NOT_NEGATIVE, Facts, Family, Roles
from scaling.config.marks import added, execution, traced
from scaling.errors import ConfigError
from scaling.families import from_data


@dataclass(frozen=True)
class GANConfig:
    """Residual blocks at every size of the image, in both (`scaling/families/gan/network.py`)."""

    family: Literal["gan"] = "gan"
    width: int = 32  # channels, at every size of the image
    depth: int = 1  # residual blocks of two convolutions at each size
    latent: int = 32  # random numbers that an image is made of
    halvings: int | None = (
        None  # times that the image is halved, down to where it begins; None: while both sides are
        # even and more than 4 pixels
    )
    spectral: int | None = (
        None  # steps of the power method by which each kernel of the discriminator is divided by
        # its largest singular value; None: off
    )
    group: int | None = (
        None  # channels of a group in the generator's norms; None: the divisor of width nearest
        # to 16
    )
    height: int | None = None  # pixels; None: what the data have, as the two below
    image_width: int | None = None  # pixels
    channels: int | None = None  # of an image
    # What is made and what is scored depends on a class: what is made of each is its own
    conditional: bool = added(False)
    classes: int | None = added(None)  # filled in from the data where `conditional`
    init_scale: float = traced(
        1.0, argument=False
    )  # of every kernel's and matrix's initial std, over its default
    dtype: Literal["float32", "bfloat16"] = (
        "float32"  # of activations and convolutions; parameters and norms stay float32
    )
    scan_layers: bool = execution(True)  # one compiled block a size, looped; False: unrolled
    remat: Literal["none", "full"] = execution(
        "none"
    )  # full: the backward pass computes every block again


def smallest(config: GANConfig) -> tuple[int, int]:
    """Height and width of the image that a resolved generator begins with, pixels."""
    by = 2 ** resolved(config.halvings)
    return resolved(config.height) // by, resolved(config.image_width) // by


def _resolve(config: GANConfig, facts: Facts) -> GANConfig:
    """Image, classes, halvings and groups. Raises ConfigError where the data have no images or not
    these classes, and where the image or the width does not divide.
    """
    known = from_data.image(config, facts.sizes, "makes images")
    if config.conditional or config.classes is not None:
        known["classes"] = _classes(config, facts)
    sides = known["height"], known["image_width"]
    halvings = config.halvings
    if halvings is None:
        halvings = 0
        while all(side >> halvings > 4 and (side >> halvings) % 2 == 0 for side in sides):
            halvings += 1
    if any(side % 2**halvings for side in sides):
        raise ConfigError(
            f"model.halvings={halvings}, but images of {sides[0]} x {sides[1]} pixels are not "
            f"divisible by {2**halvings}; give a smaller one, or leave it unset"
        )
    group = from_data.norm_group(config)
    return dataclasses.replace(config, **known, halvings=halvings, group=group)


def _classes(config: GANConfig, facts: Facts) -> int:
    found = facts.sizes.get("classes")
    if not config.conditional:
        raise ConfigError(
            f"model.classes={config.classes} is of models with model.conditional=True; set that, "
            "or leave it unset"
        )
    if found is None:
        raise ConfigError("model.conditional=True, but the data have no classes; leave it at False")
    return int(from_data.as_there(config, "classes", found))


def _roles(config: GANConfig) -> Roles:
    """Raises ConfigError for kernels whose scale is divided out again."""
    if config.spectral is not None:
        raise ConfigError(
            f"model.spectral={config.spectral} divides kernels by their largest singular value, so "
            "that no factor of theirs counts; leave it unset, or optim.parametrization at standard"
        )
    return Roles(blocks=("stage*",), branches=("conv1",))


FAMILY = Family(
    config=GANConfig,
    module="scaling.families.gan.network:Network",
    reads=frozenset({"image"}),
    gives=frozenset({"sample", "score", "features"}),
    resolve=_resolve,
    scaled=from_data.scaled_in_groups,
    roles=_roles,
    remats=("none", "full"),
    ranges=(
        (("latent", "spectral", "group", "height", "image_width", "channels"), AT_LEAST_ONE),
        (("halvings",), NOT_NEGATIVE),
    ),
)

__all__ = ["FAMILY", "GANConfig", "smallest"]
