"""Prefix tuning (Li and Liang 2021, arXiv 2101.00190): every attention layer has some keys and
values more, which stand before all texts and alone are trained. No jax here; `functions.py`
computes.
"""

from dataclasses import dataclass
from typing import Literal

from scaling.config.contracts import NOT_NEGATIVE, Transform


@dataclass(frozen=True)
class PrefixConfig:
    """Learned keys and values before the text (`scaling/transforms/prefix_tuning`)."""

    name: Literal["prefix_tuning"] = "prefix_tuning"
    length: int = 8  # keys of a layer; 0: none, the model as it is
    modules: str = "attention"  # layers that get them: names in their paths, with commas and *
    also: str | None = None  # leaves that are trained whole beside: "head, final_norm"; None: none


TRANSFORM = Transform(
    config=PrefixConfig,
    functions="scaling.transforms.prefix_tuning.functions:functions",
    label=lambda config: f"prefix {config.length}",
    ranges=((("length",), NOT_NEGATIVE),),
)
