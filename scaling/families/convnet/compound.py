"""Width, depth and resolution that grow together, as a ladder recipe.

Takes a run of convolutional blocks on images; gives the overrides of a rung. Called by studies.
"""

from dataclasses import dataclass
from typing import Any

from scaling.config import RunConfig
from scaling.errors import ConfigError
from scaling.families.convnet import ConvNetConfig, table


@dataclass(frozen=True)
class Compound:
    """Tan and Le 2019 (arXiv 1905.11946, equation 3): FLOPs grow as depth width^2 resolution^2, so
    that with the defaults, theirs, a rung costs twice the one before it.
    """

    width: float = 1.1  # channels of a rung over those of the rung before it
    depth: float = 1.2  # likewise blocks
    resolution: float = 1.15  # likewise pixels of a side

    def rung(self, phi: float, base: RunConfig, side: int) -> dict[str, Any]:
        """The overrides of a run `phi` rungs above the base, whose images have `side` pixels: its
        table, its stem, and the pixels that its images are resized to. Raises ConfigError for
        another family.
        """
        model = base.model
        if not isinstance(model, ConvNetConfig):
            raise ConfigError(
                f"compound scaling is of a table of blocks, which model.family={model.family} does "
                "not have; give model.family=convnet"
            )
        grown = table.grown(model, self.width**phi, self.depth**phi)
        return grown | {"data.side": round(side * self.resolution**phi)}
