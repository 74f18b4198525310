"""Low-rank adaptation (Hu et al. 2021, LoRA): matrices stay as they are, and a product of two thin
ones, which are trained, is added to each. No jax here; `functions.py` computes.
"""

from dataclasses import dataclass
from typing import Literal

from scaling.config.contracts import AT_LEAST_ONE, POSITIVE, Transform


@dataclass(frozen=True)
class LoraConfig:
    """W + alpha / rank * A B, of which A and B are trained (`scaling/transforms/lora`)."""

    name: Literal["lora"] = "lora"
    rank: int = 8  # columns of A, rows of B
    alpha: float = 16.0  # over the rank: how much the product counts
    modules: str = "blocks"  # matrices that get one: names in their paths, with commas and *
    also: str | None = None  # leaves that are trained whole beside: "head, final_norm"; None: none


TRANSFORM = Transform(
    config=LoraConfig,
    functions="scaling.transforms.lora.functions:functions",
    label=lambda config: f"lora {config.rank}",
    stored_as_used=False,
    ranges=((("rank",), AT_LEAST_ONE), (("alpha",), POSITIVE)),
)
