"""The config of a transformer. No jax in this file."""

from dataclasses import dataclass, field
from typing import Literal

from scaling.config.marks import added
from scaling.models.fields import BlockConfig


@dataclass(frozen=True)
class RopeScalingConfig:
    """How the frequencies of rotary positions are changed for rows longer than those that a model
    was first trained on (`rope.py`).
    """

    # linear: all divided by `factor`; llama3: those of long wavelengths, as Llama 3.1 has it
    kind: Literal["none", "linear", "llama3"] = "none"
    factor: float = 1.0  # at least 1
    low: float = 1.0  # of llama3: turns in a row of `length` below which all of the factor divides
    high: float = 4.0  # of llama3: turns above which nothing does
    length: int = 8192  # of llama3: tokens of a row at first


@dataclass(frozen=True)
class TransformerConfig(BlockConfig):
    """A decoder of pre-norm blocks (`network.py`)."""

    family: Literal["transformer"] = "transformer"
    vocab: int | None = None  # tokens; None: what the tokenizer has
    tie_embeddings: bool = True  # the output head is the embedding, transposed
    logit_softcap: float | None = None  # logits -> cap * tanh(logits / cap)
    rope_theta: float = 10_000.0  # base of the rotary wavelengths, positions
    # Tokens of a row, as trained: the positions of longer rows are scaled down to it (position
    # interpolation: Chen et al. 2023, 2306.15595); None: rows are read as they are
    rope_length: int | None = added(None)
    rope_scaling: RopeScalingConfig = field(default=RopeScalingConfig(), metadata={"added": True})
    places: int | None = added(None)  # rows of the table of learned positions: the longest row
    norm: Literal["rms", "layer"] = added("rms")  # type: ignore[misc]  # before each branch
    biases: Literal["none", "qkv", "all"] = added("none")  # type: ignore[misc]  # of projections
