"""Two views of each image that are to know each other among all others of the batch: SimCLR. No
jax here; `rows.py` computes.

Needs a family whose `out` [B, O] are the numbers that are compared, a projection of what a probe
reads as `features`; and a batch with `image` and `weight`. No label is read: give the model as many
`classes` as the projection shall have numbers.
"""

from dataclasses import dataclass
from typing import Literal

from scaling.config import contracts
from scaling.config.contracts import DECAY, NOT_NEGATIVE, POSITIVE, Metric
from scaling.config.marks import traced


@dataclass(frozen=True)
class ContrastiveViewsConfig:
    """The loss (`scaling/objectives/contrastive_views/rows.py`), and how a view is drawn: each of
    these at most, either way.
    """

    name: Literal["contrastive_views"] = "contrastive_views"
    temperature: float = traced(0.5)  # what similarities of -1 to 1 are divided by
    rotation: float = 15.0  # degrees
    scale: float = 0.2  # share by which a view is larger or smaller
    shift: float = 0.15  # share of each side by which it is moved
    color: float = 0.3  # saturation, contrast and brightness, as augment.color
    noise: float = 0.2  # standard deviation of Gaussian noise on every pixel
    flip: bool = False  # every other view is mirrored, left to right


OBJECTIVE = contracts.Objective(
    config=ContrastiveViewsConfig,
    rows="scaling.objectives.contrastive_views.rows:rows",
    outputs=frozenset({"out"}),
    fields=frozenset({"image", "weight"}),
    metrics={
        "loss": Metric("contrastive loss", "nats"),
        "rank_one": Metric("views nearest to their own", "share", better="higher"),
    },
    couples_rows=True,
    ranges=(
        (("temperature",), POSITIVE),
        (("rotation", "shift", "noise"), NOT_NEGATIVE),
        (("scale", "color"), DECAY),
    ),
)
