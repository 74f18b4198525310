"""What is minimised: `OBJECTIVES` maps `config.objective.name` to the function that builds it.

An objective is pure: model outputs and batch in, sums and counts out (`objective.py`). The train
step and the evaluator call `build(config).loss` and `.rows`.
"""

from collections.abc import Callable

from scaling.config import ObjectiveConfig
from scaling.objectives.next_token import next_token
from scaling.objectives.objective import Objective, Rows, Sum

OBJECTIVES: dict[str, Callable[[ObjectiveConfig], Objective]] = {"next_token": next_token}

__all__ = ["OBJECTIVES", "Objective", "Rows", "Sum", "build"]


def build(config: ObjectiveConfig) -> Objective:
    """The objective of a resolved config."""
    return OBJECTIVES[config.name](config)
