"""DistMult: a relation weighs the products of head and tail (Yang et al. 2015, Embedding entities
and relations for learning and inference in knowledge bases, arXiv 1412.6575). Its config and
record; no jax in this file.
"""

from dataclasses import dataclass
from typing import Literal

from scaling.families import entities
from scaling.families.entities import EntitiesConfig


@dataclass(frozen=True)
class DistMultConfig(EntitiesConfig):
    """Entities, and a diagonal matrix for each relation (`network.py`)."""

    family: Literal["distmult"] = "distmult"


FAMILY = entities.record(DistMultConfig, "scaling.families.distmult.network:DistMult")

__all__ = ["FAMILY", "DistMultConfig"]
