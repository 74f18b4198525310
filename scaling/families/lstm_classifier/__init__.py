"""Long short-term memory over the columns of an image, or the places of a signal: its config, its
size, its record.

Read without jax; the network is in `network.py`.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from scaling.config.amounts import resolved
from scaling.config.contracts import AT_LEAST_ONE, DECAY, POSITIVE, Facts, Family, Size
from scaling.config.marks import execution, traced
from scaling.families import from_data


@dataclass(frozen=True)
class LSTMClassifierConfig:
    """Layers of long short-term memory, read out once
    (`scaling/families/lstm_classifier/network.py`).
    """

    family: Literal["lstm_classifier"] = "lstm_classifier"
    width: int = 64  # hidden units of a layer, channels of the residual stream
    depth: int = 2  # layers
    pool: Literal["last", "mean"] = "mean"  # what is read out: the last place, or all places' mean
    forget_bias: float = 1.0  # at the start; large: the cell keeps what it has
    dropout: float = 0.0  # share of what a layer adds to the stream that training drops
    height: int | None = None  # pixels; None: what the data have, as the three below
    image_width: int | None = None  # pixels; as many places are read
    channels: int | None = None  # of an image
    classes: int | None = None  # outputs; the data's targets where they have no classes
    norm_eps: float = 1e-6  # added to the mean square in RMSNorm
    init_scale: float = traced(
        1.0, argument=False
    )  # of every matrix's initial std, over its default
    dtype: Literal["float32", "bfloat16"] = (
        "float32"  # of activations and matmuls; parameters and cells stay float32
    )
    unroll: int = execution(2)  # steps of time in a turn of the compiled loop
    scan_layers: bool = execution(True)  # one compiled layer, looped; False: unrolled
    remat: Literal["none", "full"] = execution(
        "none"
    )  # full: the backward pass runs a layer's recurrence again


def _resolve(config: LSTMClassifierConfig, facts: Facts) -> LSTMClassifierConfig:
    """Image and classes. Raises ConfigError where the data have none."""
    known = from_data.image(config, facts.sizes, "reads images")
    known["classes"] = from_data.classes(config, facts.sizes)
    return dataclasses.replace(config, **known)


def size(config: LSTMClassifierConfig) -> Size:
    """Parameters and training FLOPs an image of a resolved model, exactly: 3 times the forward
    pass's matmuls.
    """
    width, depth, classes = config.width, config.depth, resolved(config.classes)
    places, numbers = (
        resolved(config.image_width),
        resolved(config.height) * resolved(config.channels),
    )
    matrices = 2 * width * 4 * width  # of the input and of the state, for 4 gates
    params = numbers * width + width  # into the stream
    params += depth * (matrices + 4 * width + width) + width  # biases, norms
    params += width * classes + classes
    forward = places * (numbers * width + depth * matrices) + width * classes
    return Size(params, params, params, 3 * 2.0 * forward)


FAMILY = Family(
    config=LSTMClassifierConfig,
    module="scaling.families.lstm_classifier.network:Network",
    reads=frozenset({"image"}),
    gives=frozenset({"out", "features"}),
    resolve=_resolve,
    stated=from_data.stated_image,
    size=lambda config, data: size(config),
    remats=("none", "full"),
    ranges=(
        (("unroll", *from_data.IMAGE, "classes"), AT_LEAST_ONE),
        (("norm_eps",), POSITIVE),
        (("dropout",), DECAY),
    ),
)

__all__ = ["FAMILY", "LSTMClassifierConfig", "size"]
