"""What there is to say of one prediction of a run: what `scaling/explain` finds, and the page shows
(`scaling/report/explained.py`). Plain numbers and texts; NumPy only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

METHODS = ("gradients", "occlusion", "attention", "lens", "layers")


@dataclass(frozen=True)
class Map:
    """What each part of the input has to do with the prediction."""

    method: str  # "gradients" or "occlusion"
    scores: np.ndarray  # [L] of the places of a text or of numbers, or [Y, X] of an image
    explained: float  # what is explained, less the same of the baseline
    gap: float | None = None  # of a sum that should be `explained`, over it; None: no such promise
    steps: int | None = None  # of an integral
    # Rank correlation with the scores of the same model with weights drawn anew, and of their sizes
    # (Adebayo et al. 2018, arXiv 1810.03292); None: there is none of equal scores
    redrawn: float | None = None
    redrawn_sizes: float | None = None


@dataclass(frozen=True)
class Attention:
    """Of one layer."""

    name: str
    weights: np.ndarray  # [H, L, S]: what each query gives each slot
    # [H] each, of random text that is read twice: shares of attention; None: no text is read so
    induction: np.ndarray | None = None
    previous: np.ndarray | None = None


@dataclass(frozen=True)
class Reading:
    """What the stream behind so many blocks says, by all that stands behind the last one."""

    blocks: int
    likeliest: Sequence[str]  # of each prediction of the example
    probability: np.ndarray  # of these
    predicted: float  # probability of what the whole model holds likeliest, where it is explained


@dataclass(frozen=True)
class Explanation:
    """Of one prediction."""

    run: str
    step: int  # updates made
    example: str  # which
    predicted: str  # what the model holds likeliest
    said: str  # what is explained, in words
    true: str | None  # what is true; None: nobody knows
    baseline: str  # what the input is held against
    place: int | None  # of a text, the place whose prediction is explained
    pieces: Sequence[str] = ()  # what stands at each place; none: an image
    image: np.ndarray | None = None  # [Y, X, C]
    maps: Sequence[Map] = ()
    attention: Sequence[Attention] = ()
    lens: Sequence[Reading] = ()
    # blocks -> column -> number, of the validation set
    layers: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
