"""TransE: a relation is a step from the head to the tail (Bordes et al. 2013, Translating
embeddings for modeling multi-relational data). Its config and record; no jax in this file.
"""

from dataclasses import dataclass
from typing import Literal

from scaling.config.contracts import POSITIVE
from scaling.families import entities
from scaling.families.entities import EntitiesConfig


@dataclass(frozen=True)
class TransEConfig(EntitiesConfig):
    """Entities of length 1, and steps between them (`network.py`)."""

    family: Literal["transe"] = "transe"
    temperature: float = 0.1  # distances are scores over it; 1: the paper's, for a loss of margins


FAMILY = entities.record(
    TransEConfig,
    "scaling.families.transe.network:TransE",
    ((("temperature",), POSITIVE),),
)

__all__ = ["FAMILY", "TransEConfig"]
