"""Two players: a generator of examples, and a discriminator that tells them from the data's. No jax
here; `rows.py` computes.

Needs a family whose `sample` is made of a key, and whose `score` and `features` are of an image; a
batch with `image` and `weight`; parameters in two parts, "generator" and "discriminator".
"""

from dataclasses import dataclass
from typing import Literal

from scaling.config import contracts
from scaling.config.contracts import AT_LEAST_ONE, NOT_NEGATIVE, Metric, Player
from scaling.config.marks import traced
from scaling.metrics import moments


@dataclass(frozen=True)
class AdversarialConfig:
    """The losses of both, and how often and how fast each learns."""

    name: Literal["adversarial"] = "adversarial"
    form: Literal["non_saturating", "hinge"] = "non_saturating"  # see `rows.py`
    r1: float = traced(
        0.0, common=1.0, off=0.0
    )  # weight of half of the squared gradient of the scores of real images; 0: off
    generator_every: int = traced(1)  # updates of the discriminator for one of the generator
    generator_rate: float = traced(1.0)  # peak learning rate of the generator / optim.peak_lr
    discriminator_rate: float = traced(1.0)  # likewise, of the discriminator


OBJECTIVE = contracts.Objective(
    config=AdversarialConfig,
    rows="scaling.objectives.adversarial.rows:rows",
    outputs=frozenset({"sample", "score", "features"}),
    fields=frozenset({"image", "weight"}),
    metrics={
        "loss": Metric("loss of the discriminator", "nats"),
        "generator_loss": Metric("loss of the generator", "nats"),
        # Of the run's own discriminator: to be compared within a run, not between runs.
        "feature_distance": Metric(
            "Fréchet distance of the discriminator's features", finish=moments.frechet
        ),
    },
    players=(
        Player("discriminator", frozenset({"discriminator"}), rate="discriminator_rate"),
        Player("generator", frozenset({"generator"}), "generator_every", "generator_rate"),
    ),
    ranges=(
        (("r1", "generator_rate", "discriminator_rate"), NOT_NEGATIVE),
        (("generator_every",), AT_LEAST_ONE),
    ),
)
