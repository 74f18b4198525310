"""Some leaves are not trained: they stay as they were drawn, or as the run that is begun from left
them. With `only` it is the others that stay: of biases and gains (BitFit: Ben Zaken et al. 2022,
arXiv 2106.10199), of a new head (a linear probe). No jax here; `functions.py` computes.
"""

from dataclasses import dataclass
from typing import Any, Literal

from scaling.config.contracts import Transform
from scaling.config.marks import added


@dataclass(frozen=True)
class FreezeConfig:
    """Leaves without gradients and moments (`scaling/transforms/freeze`)."""

    name: Literal["freeze"] = "freeze"
    modules: str = "embedding"  # what is not trained: names in paths, with commas and *
    # What alone is trained, likewise, in the place of `modules`: "bias,scale", "head"; None: off
    only: str | None = added(None)


def _label(config: FreezeConfig) -> str:
    return f"{config.only} alone" if config.only else f"without {config.modules}"


def _by_modules(config: Any) -> bool:
    return not config.transform.only


TRANSFORM = Transform(
    config=FreezeConfig,
    functions="scaling.transforms.freeze.functions:functions",
    label=_label,
    idle=((("transform.modules",), _by_modules, "transform.only=None"),),
)
