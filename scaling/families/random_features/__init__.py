"""Random features: a fixed random projection, and a linear read-out of it that is trained.

The model of Maloney, Roberts and Sully (2022, arXiv 2210.16859), whose loss on the data kind
`vectors` is known (`scaling/data/kinds/vectors/theory.py`). No jax in this file.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from scaling.config.contracts import AT_LEAST_ONE, SEED, Facts, Family, Size
from scaling.config.marks import execution, traced
from scaling.errors import ConfigError


@dataclass(frozen=True)
class RandomFeaturesConfig:
    """A read-out of random features (`network.py`)."""

    family: Literal["random_features"] = "random_features"
    width: int = 256  # random features; N in the paper
    depth: int = 1  # one layer is trained
    inputs: int | None = None  # numbers of an example; None: what the data have
    outputs: int | None = None  # numbers to be predicted; None: what the data have
    activation: Literal["linear", "relu"] = "linear"  # of the random features
    feature_seed: int = 0  # of the projection
    readout: Literal["zero", "normal"] = (
        "zero"  # where training starts; of zero, gradient descent ends at the least norm
    )
    init_scale: float = traced(
        1.0, argument=False
    )  # of the read-out's initial std, over its default
    dtype: Literal["float32", "bfloat16"] = (
        "float32"  # of activations and matmuls; parameters stay float32
    )
    remat: Literal["none"] = execution("none")  # there is nothing to compute again


def resolve(model: RandomFeaturesConfig, facts: Facts) -> RandomFeaturesConfig:
    """The model with the sizes of the data. Raises ConfigError."""
    found: dict[str, Any] = {}
    for field, name in (("inputs", "features"), ("outputs", "targets")):
        if name not in facts.sizes:
            raise ConfigError(
                f"model.family=random_features needs data with {name}; choose data.kind=vectors"
            )
        given, found[field] = getattr(model, field), facts.sizes[name]
        if given is not None and given != found[field]:
            raise ConfigError(
                f"model.{field}={given}, but the data have {name}={found[field]}; leave "
                f"model.{field} unset"
            )
    return dataclasses.replace(model, **found)


def size(model: RandomFeaturesConfig, data: Any) -> Size:
    """Of a resolved model. The projection is drawn, so it is no parameter; it is applied once a
    step and has no gradient, while the read-out is a product forward and one backward.
    """
    del data
    if model.inputs is None or model.outputs is None:
        raise ValueError("the model is not resolved")
    params = model.width * model.outputs
    flops = 2.0 * model.inputs * model.width + 4.0 * params
    return Size(params, params, params, flops)


def _scaled(model: RandomFeaturesConfig, width: int, depth: int) -> dict[str, Any]:
    del model
    if depth != 1:
        raise ConfigError(f"model.depth={depth}: random_features has one layer; vary model.width")
    return {"model.width": width}


def _stated(model: RandomFeaturesConfig) -> dict[str, int] | None:
    if model.inputs is None or model.outputs is None:
        return None
    return {"features": model.inputs, "targets": model.outputs}


_RANGES: Any = (
    (("inputs", "outputs"), AT_LEAST_ONE),
    (("depth",), (lambda depth: depth == 1, "be 1: one layer is trained")),
    (("feature_seed",), SEED),
)
_IDLE: Any = (
    (
        ("model.init_scale",),
        lambda config: config.model.readout == "normal",
        "model.readout=normal",
    ),
)

FAMILY = Family(
    config=RandomFeaturesConfig,
    module="scaling.families.random_features.network:RandomFeatures",
    reads=frozenset({"features"}),
    gives=frozenset({"out", "features"}),
    resolve=resolve,
    scaled=_scaled,
    stated=_stated,
    size=size,
    ranges=_RANGES,
    idle=_IDLE,
)
