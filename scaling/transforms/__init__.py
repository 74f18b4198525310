"""What lies between the parameters as stored and as used, by name: one package each, with its
config and record (no jax), and beside it the functions (`functions.py`). In comes a model, out goes
one whose parameters are stored otherwise (`transform.py`), and which of them are trained.

The rest of the house knows a transform by its record (`scaling/config/contracts.py`) only.
"""

from dataclasses import dataclass
from typing import Literal

from scaling.config.contracts import Transform
from scaling.config.marks import added

DEFAULT = "none"


@dataclass(frozen=True)
class NoneConfig:
    """Parameters are stored as they are used, and all of them are trained."""

    name: Literal["none"] = added("none")


TRANSFORMS: dict[str, Transform | str] = {
    "none": Transform(NoneConfig, functions=None, label=lambda config: "whole"),
    "lora": "scaling.transforms.lora:TRANSFORM",
    "prefix_tuning": "scaling.transforms.prefix_tuning:TRANSFORM",
    "freeze": "scaling.transforms.freeze:TRANSFORM",
    "prune": "scaling.transforms.prune:TRANSFORM",
    "qat": "scaling.transforms.qat:TRANSFORM",
    "low_rank": "scaling.transforms.low_rank:TRANSFORM",
}
