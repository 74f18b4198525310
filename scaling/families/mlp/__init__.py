"""A multilayer perceptron over vectors or flattened images: its config, its size, its record.

Read without jax; the network is in `network.py`.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from scaling.config.amounts import resolved
from scaling.config.contracts import AT_LEAST_ONE, DECAY, POSITIVE, Facts, Family, Size
from scaling.config.marks import added, execution, traced
from scaling.errors import ConfigError


@dataclass(frozen=True)
class MLPConfig:
    """Layers of all with all (`scaling/families/mlp/network.py`)."""

    family: Literal["mlp"] = "mlp"
    width: int = 256  # units of a hidden layer
    depth: int = 2  # hidden layers
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    norm: Literal["none", "layer", "rms"] = "none"  # of a hidden layer, before its activation
    residual: bool = False  # every hidden layer but the first is added to what it reads
    inputs: int | None = None  # numbers of an example; None: what the data have
    outputs: int | None = None  # None: the data's classes, or targets
    dropout: float = added(0.0)  # share of each hidden layer's units that training drops
    norm_eps: float = 1e-6  # added to the mean square or the variance in a norm
    init_scale: float = traced(
        1.0, argument=False
    )  # of every matrix's initial std, over its default
    dtype: Literal["float32", "bfloat16"] = (
        "float32"  # of activations and matmuls; parameters stay float32
    )
    scan_layers: bool = execution(True)  # one compiled layer, looped; False: unrolled
    remat: Literal["none", "full"] = execution(
        "none"
    )  # full: the backward pass computes the hidden layers again


def _resolve(config: MLPConfig, facts: Facts) -> MLPConfig:
    """Inputs and outputs, from the data. Raises ConfigError where the data have none."""
    sizes = facts.sizes
    if "features" in sizes:
        inputs = sizes["features"]
    elif "image_width" in sizes:
        inputs = sizes["height"] * sizes["image_width"] * sizes["channels"]
    else:
        raise ConfigError("model.family=mlp reads images or vectors; set data.kind to one of them")
    if config.inputs not in (None, inputs):
        raise ConfigError(
            f"model.inputs={config.inputs}, but an example has {inputs} numbers; leave "
            "model.inputs unset"
        )
    outputs = config.outputs or sizes.get("classes") or sizes.get("targets")
    if outputs is None:
        raise ConfigError("model.outputs: the data have no classes and no targets; give it")
    return dataclasses.replace(config, inputs=inputs, outputs=outputs)


def size(config: MLPConfig) -> Size:
    """Parameters and training FLOPs an example of a resolved model, exactly: 3 times the forward
    pass's matmuls.
    """
    width, hidden = config.width, config.depth - 1
    ends = resolved(config.inputs) * width + width * resolved(config.outputs)
    matrices = ends + hidden * width**2
    norms = {"none": 0, "layer": 2, "rms": 1}[config.norm]
    params = matrices + config.depth * (1 + norms) * width + resolved(config.outputs)
    return Size(params, params, params, 3 * 2.0 * matrices)


def _stated(config: MLPConfig) -> dict[str, int] | None:
    if config.inputs is None or config.outputs is None:
        return None
    return {"features": config.inputs, "targets": config.outputs}


def _has_norm(run: Any) -> bool:
    return bool(run.model.norm != "none")


FAMILY = Family(
    config=MLPConfig,
    module="scaling.families.mlp.network:Network",
    reads=frozenset(),  # image or features: `_resolve` asks for either
    gives=frozenset({"out", "features"}),
    resolve=_resolve,
    stated=_stated,
    size=lambda config, data: size(config),
    remats=("none", "full"),
    ranges=(
        (("inputs", "outputs"), AT_LEAST_ONE),
        (("norm_eps",), POSITIVE),
        (("dropout",), DECAY),
    ),
    idle=((("model.norm_eps",), _has_norm, "model.norm=layer or rms"),),
)

__all__ = ["FAMILY", "MLPConfig", "size"]
