"""Next-token prediction: cross-entropy in nats a token. No jax in this file."""

from scaling.config.contracts import AT_LEAST_ONE, NOT_NEGATIVE, SHARE, Metric, Objective
from scaling.objectives.next_token.fields import NextTokenConfig

OBJECTIVE = Objective(
    config=NextTokenConfig,
    rows="scaling.objectives.next_token.rows:next_token",
    outputs=frozenset({"hidden", "head"}),
    fields=frozenset({"targets", "loss_mask", "target_bytes"}),
    metrics={
        "loss": Metric("loss", "nats/token"),
        "bits_per_byte": Metric(
            "bits per byte",
            "bits/byte",
            meaning="loss / ln 2 * tokens / bytes of the evaluated text",
        ),
        "accuracy": Metric("accuracy", better="higher"),
        "z_loss": Metric("z-loss", "nats^2", tabled=False),
    },
    soft="loss_mask",
    ranges=(
        (("z_loss", "load_balance", "router_z"), NOT_NEGATIVE),
        (("label_smoothing",), SHARE),
        (("chunk",), AT_LEAST_ONE),
    ),
)

__all__ = ["OBJECTIVE", "NextTokenConfig"]
