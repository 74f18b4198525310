"""Several tasks at once, each row of one of them: the mean of what its own objective makes of it.
No jax here; `rows.py` computes.

Needs a family with a head for each task: `out`, `tags`, `spans`, and `masked` with `table`, as far
as they are there; a batch as the kind of several tasks gives it. A family that gives
`log_variances` [T] has the tasks weighed by their uncertainty.
"""

from dataclasses import dataclass
from typing import Literal

from scaling.config import contracts
from scaling.config.contracts import Metric


@dataclass(frozen=True)
class MultitaskConfig:
    """The losses of several tasks (`scaling/objectives/multitask`)."""

    name: Literal["multitask"] = "multitask"


_EACH = "mean over rows, of each of the mean over what is predicted in it"

OBJECTIVE = contracts.Objective(
    config=MultitaskConfig,
    rows="scaling.objectives.multitask.rows:rows",
    outputs=frozenset({"out", "tags", "spans", "masked", "table"}),
    fields=frozenset({"task", "label_weight", "tags_weight", "answer_weight", "token_weight"}),
    metrics={
        "loss": Metric("loss", "nats", meaning=_EACH),
        "accuracy": Metric(
            "accuracy", better="higher", meaning=f"{_EACH}; of an answer, whether it is exact"
        ),
    },
)
