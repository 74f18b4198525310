"""Runs that show whether the best learning rate transfers: models along one axis, each at rates
around the one that the base was tuned to.

Takes a base config; gives overrides for a `Study`, whose x is then the learning rate and whose
curves are the models. Called by `experiments/transfer.py` and `launch.py certify`. No jax in this
file.
"""

from collections.abc import Sequence
from typing import Any, Literal

from scaling.config import LENGTHS, RunConfig, choices
from scaling.config.checks import DEEP
from scaling.config.sweep import Override, grid, product

Axis = Literal["width", "depth"]
FIELDS = ("optim.parametrization", "optim.base_width", "optim.base_depth")


def model(base: RunConfig, axis: Axis, size: int) -> Override:
    """The base's model at another width or depth, in its proportions."""
    width, depth = (size, base.model.depth) if axis == "width" else (base.model.width, size)
    return choices.family(base.model).scaled(base.model, width, depth)


def parametrized(base: RunConfig, name: str) -> Override:
    """The parametrization of this name whose base is the base's own shape."""
    width = None if name == "standard" else base.model.width
    depth = base.model.depth if name in DEEP else None
    return dict(zip(FIELDS, (name, width, depth), strict=True))


def rates(base: RunConfig, octaves: Sequence[float], falls: float = 1.0) -> list[float]:
    """The base's peak learning rate over `falls`, so many octaves up and down."""
    return [base.optim.peak_lr / falls * 2.0**octave for octave in octaves]


def stressed(base: RunConfig, factor: int = 4) -> dict[str, Override]:
    """Changes of the base under which rates are known to stop transferring, each by name: more
    weight decay, larger batches, longer training.
    """
    length = next(name for name in LENGTHS if getattr(base.train, name) is not None)
    decay = factor * base.optim.weight_decay or 0.1
    return {
        f"weight decay {decay:g}": {"optim.weight_decay": decay},
        f"{factor} times the batch": {"train.batch_size": factor * base.train.batch_size},
        f"{factor} times the length": {f"train.{length}": factor * getattr(base.train, length)},
    }


def runs(
    base: RunConfig,
    axis: Axis,
    sizes: Sequence[int],
    name: str,
    octaves: Sequence[float],
    seeds: Sequence[int] = (0,),
    falls: float = 0.0,
) -> list[Override]:
    """A run for each size, rate and seed, sizes slowest, rates fastest.

    Args:
      base: the smallest model, whose `optim.peak_lr` is about its best.
      sizes: values of the axis, the base's own among them.
      name: of the parametrization.
      octaves: of the rates, about the base's.
      falls: the rates of a size are about the base's over (size / base)^falls.
    """
    own = base.model.width if axis == "width" else base.model.depth
    every: list[Override] = []
    for size in sizes:
        swept: dict[str, Any] = {
            "seed": list(seeds),
            "optim.peak_lr": rates(base, octaves, (size / own) ** falls),
        }
        every += product([model(base, axis, size) | parametrized(base, name)], grid(swept))
    return every
