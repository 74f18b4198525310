"""Which shape of a transformer is best for its training FLOPs? Depth against width, heads and the
width of the MLP, all for one budget, against the hand-made recipe of `configs/tiny.py`.

`sweep --tune` searches; its report sets what was found, trained again with other seeds, against the
recipe's shapes for the same FLOPs. Without `--tune` the recipe's shapes alone are trained.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from configs import tiny
from scaling.config import from_dict, is_debug
from scaling.config.search import Search, among, whole
from scaling.config.sweep import Override, Study, with_seeds

STEP = 8  # widths and MLP widths are multiples
BUDGET = 6e10  # training FLOPs: width 32 reads 200 thousand bytes
HAND = (24, 32, 48)  # widths of the recipe
SEEDS = 4
BY_SHAPE = replace(tiny.RECIPE, parametrization="completep")


def shape(values: Mapping[str, Any]) -> Override:
    """Width, heads and MLP of a drawn shape, at the recipe's learning rate; CompleteP is muP at the
    recipe's two blocks, and says what other depths want.
    """
    width = STEP * values["width / 8"]
    heads = max(1, round(width / values["head_dim"]))
    return {
        "model.width": width,
        "model.depth": values["depth"],
        "model.heads": heads,
        "model.head_dim": values["head_dim"],
        "model.mlp_width": STEP * max(1, round(values["mlp_ratio"] * width / STEP)),
        **BY_SHAPE.parametrized(),
        "optim.peak_lr": BY_SHAPE.lr,
    }


def get_study(arg: str = "") -> Study:
    """16 shapes, eight at a time; four seeds of the best and of the recipe's; "debug": six of a
    few steps.
    """
    debug = is_debug(arg)
    base = tiny.bare(arg)
    base.train.flops = 4e8 if debug else BUDGET
    given = from_dict(base)
    hand = [tiny.RECIPE.shape(width, given) for width in ((8, 16) if debug else HAND)]
    return Study(
        name="architecture_search",
        question="Which shape of a transformer is best for its training FLOPs?",
        base=base,
        runs=with_seeds(hand, 1 if debug else SEEDS),
        x="params",
        holdout=False,
        search=Search(
            axes={
                "width / 8": whole(1, 3) if debug else whole(2, 10),
                "depth": whole(1, 2) if debug else whole(1, 6),
                "head_dim": among((8, 16)),
                "mlp_ratio": among((1.0, 2.0, 4.0)),
            },
            override=shape,
            trials=6 if debug else 16,
            at_once=3 if debug else 8,
            rungs=(1 / 3,) if debug else (1 / 9, 1 / 3),
            confirm=1 if debug else SEEDS,
        ),
    )
