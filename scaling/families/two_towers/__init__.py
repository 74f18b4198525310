"""Two towers: an image and a text, each to a vector of length 1; those that belong together are to
be near. Their config and record.

Read without jax; the network is in `network.py`.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from scaling.config.contracts import AT_LEAST_ONE, NOT_NEGATIVE, POSITIVE, Facts, Family, Roles
from scaling.families import from_data
from scaling.models.tower_fields import TowersConfig


@dataclass(frozen=True)
class TwoTowersConfig(TowersConfig):
    """Readers of images and texts (`scaling/families/two_towers/network.py`)."""

    family: Literal["two_towers"] = "two_towers"
    embedding: int = 64  # numbers of the vectors that are compared
    temperature: float = 0.07  # of the similarities, at the start; it is learned
    bias: float | None = None  # of the logits, at the start, and learned; None: there is none


def _resolve(config: TwoTowersConfig, facts: Facts) -> TwoTowersConfig:
    """Image, vocabulary and derived sizes filled in. Raises ConfigError."""
    return dataclasses.replace(config, **from_data.towers(config, facts.sizes))


FAMILY = Family(
    config=TwoTowersConfig,
    module="scaling.families.two_towers.network:Network",
    reads=frozenset({"image", "text", "text_segments"}),
    gives=frozenset({"image_embedding", "text_embedding", "log_scale"}),
    resolve=_resolve,
    scaled=from_data.scaled_towers,
    width_step=from_data.even_head_dim,
    roles=lambda config: Roles(
        attention=("query_norm",) if config.qk_norm else ("attention/query",)
    ),
    remats=("none", "dots", "full"),
    ranges=(
        (
            ("heads", "head_dim", "mlp_width", "patch", "embedding", *from_data.IMAGE),
            AT_LEAST_ONE,
        ),
        (("stem",), NOT_NEGATIVE),
        (("norm_eps", "rope_theta", "temperature"), POSITIVE),
    ),
)

__all__ = ["FAMILY", "TwoTowersConfig"]
