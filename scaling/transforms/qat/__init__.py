"""Quantization-aware training: weights are used rounded to few levels, and trained as they are
(Jacob et al. 2018, arXiv 1712.05877, section 3). No jax here; `functions.py` computes.
"""

from dataclasses import dataclass
from typing import Literal

from scaling.config.contracts import Transform


@dataclass(frozen=True)
class QatConfig:
    """Matrices are rounded in each forward pass, a scale an output channel, and their gradient goes
    straight through (`scaling/transforms/qat`).
    """

    name: Literal["qat"] = "qat"
    bits: int = 8  # of a weight: 2^bits - 1 levels about zero; 2: ternary, -1, 0 and 1
    modules: str = "*"  # matrices that are rounded: names in their paths, with commas and *


TRANSFORM = Transform(
    config=QatConfig,
    functions="scaling.transforms.qat.functions:functions",
    label=lambda config: f"{config.bits} bits",
    bits=lambda config: float(config.bits),
    ranges=((("bits",), (lambda v: 2 <= v <= 8, "lie between 2 and 8")),),
)
