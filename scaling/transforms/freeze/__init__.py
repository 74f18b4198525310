"""Some leaves are not trained: they stay as they were drawn, or as the run that is begun from left
them. No jax here; `functions.py` computes.
"""

from dataclasses import dataclass
from typing import Literal

from scaling.config.choices import Transform


@dataclass(frozen=True)
class FreezeConfig:
    """Leaves without gradients and moments (`scaling/transforms/freeze`)."""

    name: Literal["freeze"] = "freeze"
    modules: str = "embedding"  # what is not trained: names in paths, with commas and *


TRANSFORM = Transform(
    config=FreezeConfig,
    functions="scaling.transforms.freeze.functions:functions",
    label=lambda config: f"without {config.modules}",
)
