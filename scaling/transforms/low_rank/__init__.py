"""Low-rank factorisation: a matrix is stored, and trained, as the product of two thin ones, which
the singular values of what it begins with give (Khodak et al. 2021, arXiv 2105.01029). No jax here;
`functions.py` computes.
"""

from dataclasses import dataclass
from typing import Literal

from scaling.config.contracts import Transform


@dataclass(frozen=True)
class LowRankConfig:
    """Matrices are used as A B, which alone are stored (`scaling/transforms/low_rank`)."""

    name: Literal["low_rank"] = "low_rank"
    share: float = 0.25  # of a matrix's smaller side: columns of A, rows of B, at least one
    modules: str = "*"  # matrices that are factored: names in their paths, with commas and *


TRANSFORM = Transform(
    config=LowRankConfig,
    functions="scaling.transforms.low_rank.functions:functions",
    label=lambda config: f"rank {config.share:g}",
    stored_as_used=False,
    measures=("density",),
    ranges=((("share",), (lambda v: 0 < v <= 1, "be positive and at most 1")),),
)
