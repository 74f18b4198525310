"""An image and a text to one answer: two readers, and one of four ways to bring them together. Its
config and its record.

Read without jax; the network is in `network.py`.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from scaling.config.contracts import AT_LEAST_ONE, NOT_NEGATIVE, POSITIVE, Facts, Family, Roles
from scaling.errors import ConfigError
from scaling.families import from_data
from scaling.models.tower_fields import TowersConfig


@dataclass(frozen=True)
class FusionConfig(TowersConfig):
    """Readers of images and texts, and what joins them (`scaling/families/fusion/network.py`)."""

    family: Literal["fusion"] = "fusion"
    # How the two become one. concatenation, average: of the means over each reader's places; gated:
    # their average by weights that a network gives for each channel; cross: every place of the text
    # reads the image, once
    fusion: Literal["concatenation", "average", "gated", "cross"] = "cross"
    classes: int | None = None  # outputs; None: the data's


def _resolve(config: FusionConfig, facts: Facts) -> FusionConfig:
    """Image, vocabulary, answers and derived sizes filled in. Raises ConfigError."""
    known = from_data.towers(config, facts.sizes)
    known["classes"] = from_data.classes(config, facts.sizes)
    if known["classes"] < 2:
        raise ConfigError(
            "model.family=fusion answers questions, and the data have none; set data.task=questions"
        )
    return dataclasses.replace(config, **known)


FAMILY = Family(
    config=FusionConfig,
    module="scaling.families.fusion.network:Network",
    reads=frozenset({"image", "text", "text_segments"}),
    gives=frozenset({"out", "features"}),
    resolve=_resolve,
    scaled=from_data.scaled_towers,
    width_step=from_data.even_head_dim,
    roles=lambda config: Roles(
        attention=("query_norm",) if config.qk_norm else ("attention/query", "reading/query")
    ),
    remats=("none", "dots", "full"),
    ranges=(
        (("heads", "head_dim", "mlp_width", "patch", *from_data.IMAGE, "classes"), AT_LEAST_ONE),
        (("stem",), NOT_NEGATIVE),
        (("norm_eps", "rope_theta"), POSITIVE),
    ),
)

__all__ = ["FAMILY", "FusionConfig"]
