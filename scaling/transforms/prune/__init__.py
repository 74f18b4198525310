"""Magnitude pruning: the smallest weights are zero, and stay so. All at once, of the weights that a
run begins with (then trained on), or by and by (Zhu and Gupta 2017, arXiv 1710.01878). No jax here;
`functions.py` computes.
"""

from dataclasses import dataclass
from typing import Any, Literal

from scaling.config.contracts import AT_LEAST_ONE, DECAY, SHARE, Transform
from scaling.config.marks import added, traced


@dataclass(frozen=True)
class PruneConfig:
    """The weights that are used are those that a mask leaves (`scaling/transforms/prune`)."""

    name: Literal["prune"] = "prune"
    sparsity: float = traced(0.5)  # share of the weights of `modules` that are zero at the end
    modules: str = "*"  # matrices that are pruned: names in their paths, with commas and *
    scope: Literal["global", "layer"] = "global"  # what the smallest weights are the smallest of
    # Neighbours along a matrix's inputs of which a share of `sparsity` is zero each: 4 makes 2:4 of
    # 0.5; None: off
    group: int | None = None
    # Shares of the steps between which the sparsity rises; end 0: all at once, before the first
    begin: float = 0.0
    end: float = 0.0
    every: int = 50  # updates from one rise to the next
    # The mask is that of the run in `begins.run`, and the weights are drawn, by the run's own seed:
    # a lottery ticket where that is the other's (Frankle and Carbin 2019, arXiv 1803.03635)
    rewind: bool = False
    # "begun": in their place the weights that that run itself began with, of one that had trained
    # for a while (Frankle et al. 2020, arXiv 1912.05671, section 4)
    rewind_to: Literal["drawn", "begun"] = added("drawn")


def _at_once(config: Any) -> bool:
    return not config.transform.end


def _rewound(config: Any) -> bool:
    return bool(config.transform.rewind)


def _ungrouped(config: Any) -> bool:
    return config.transform.group is None


TRANSFORM = Transform(
    config=PruneConfig,
    functions="scaling.transforms.prune.functions:functions",
    label=lambda config: f"{'ticket of ' * config.rewind}sparsity {config.sparsity:g}",
    stored_as_used=False,
    measures=("density",),
    ranges=(
        (("sparsity",), DECAY),
        (("begin", "end"), SHARE),
        (("every", "group"), AT_LEAST_ONE),
    ),
    idle=(
        (("transform.begin", "transform.every"), lambda c: not _at_once(c), "transform.end"),
        (
            ("transform.rewind",),
            lambda c: _at_once(c) and c.begins.run is not None,
            "begins.run, and transform.end at 0",
        ),
        (("transform.rewind_to",), _rewound, "transform.rewind"),
        (("transform.scope",), _ungrouped, "transform.group=None"),
    ),
)
