"""The parameters of a run as `launch.py check --table` shows them: what each is and how its initial
scale, learning rate, decay, epsilon and factor stand to the base's.

Takes a resolved run; compiles nothing. Called by `scaling/commands/inspection.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scaling.config import RunConfig
from scaling.optim import BY_ROLE
from scaling.optim.roles import Leaf, decayed
from scaling.transforms import transform


@dataclass(frozen=True)
class Row:
    """One parameter. All numbers but `lr` and `weight_decay` are multipliers."""

    leaf: Leaf
    optimizer: str
    init: float  # of the initial std
    forward: float  # of the value where the model uses it
    epsilon: float
    lr: float  # at the peak
    weight_decay: float | None  # what multiplies lr * schedule, or the schedule; None: not decayed


def rows(config: RunConfig) -> list[Row]:
    """A row for each parameter as stored, in the order of their paths."""
    optim, found = config.optim, transform.described(config)
    made = []
    for leaf, of in zip(found.leaves, found.multipliers, strict=True):
        name = "adamw" if optim.name in BY_ROLE and leaf.role != "hidden" else optim.name
        decay = None
        if decayed(leaf.path):
            decay = optim.weight_decay * (1 if optim.independent_weight_decay else of.decay)
        rate = optim.peak_lr * of.rate
        made.append(Row(leaf, name, of.init, of.forward, of.epsilon, rate, decay))
    return made


_HEAD = (
    *("parameter", "shape", "role", "optimizer", "init std", "forward", "epsilon"),
    *("peak lr", "weight decay"),
)


def text(config: RunConfig) -> str:
    """The rows as an aligned table, below a line that says what they are over."""
    optim = config.optim
    said = f"parametrization: {optim.parametrization}"
    if optim.base_width is not None:
        said += f", base width {optim.base_width} of {config.model.width}"
    if optim.base_depth is not None:
        said += f", base depth {optim.base_depth} of {config.model.depth}"
    cells = [_HEAD, *(_cells(row) for row in rows(config))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in cells]
    coupled = "the schedule" if optim.independent_weight_decay else "the rate, scheduled,"
    return "\n".join(
        [
            f"{said}; init std, forward and epsilon are over those of standard",
            *lines,
            f"weight decay: a step takes {coupled} times it of each parameter",
        ]
    )


def _cells(row: Row) -> Sequence[str]:
    decay = "-" if row.weight_decay is None else f"{row.weight_decay:.3g}"
    numbers = [f"x {value:.4g}" for value in (row.init, row.forward, row.epsilon)]
    shape = "x".join(map(str, row.leaf.shape))
    return (row.leaf.path, shape, row.leaf.role, row.optimizer, *numbers, f"{row.lr:.3g}", decay)


def as_list(config: RunConfig) -> list[dict[str, Any]]:
    """The rows as JSON values."""
    return [
        {
            "path": row.leaf.path,
            "shape": list(row.leaf.shape),
            "role": row.leaf.role,
            "optimizer": row.optimizer,
            "init": row.init,
            "forward": row.forward,
            "epsilon": row.epsilon,
            "lr": row.lr,
            "weight_decay": row.weight_decay,
        }
        for row in rows(config)
    ]
