"""The config of a transformer. No jax in this file."""

from dataclasses import dataclass
from typing import Literal

from scaling.config.marks import added
from scaling.models.fields import BlockConfig


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
    places: int | None = added(None)  # rows of the table of learned positions: the longest row
    norm: Literal["rms", "layer"] = added("rms")  # type: ignore[misc]  # before each branch
    biases: Literal["none", "qkv", "all"] = added("none")  # type: ignore[misc]  # of projections
