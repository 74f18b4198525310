"""Depth alone: one width, one amount of data, one to ten blocks, whose rates and scales follow the
depth (CompleteP).
"""

from dataclasses import replace

from configs import tiny
from scaling.config.sweep import Study, with_seeds


def get_study(arg: str = "") -> Study:
    """Six depths of width 32, a million bytes each, two seeds; the deepest once."""
    debug = arg == "debug"
    depths = (1, 2, 3) if debug else (1, 2, 3, 4, 6, 10)
    recipe = replace(tiny.RECIPE, parametrization="completep")
    shape = recipe.rung(16 if debug else 32) | {
        "train.tokens_per_param": None,
        "train.tokens": 512.0 if debug else 1e6,
    }
    return Study(
        name="depth",
        question="How does the loss fall with depth when width and data stay the same?",
        base=tiny.get_config(arg),
        runs=with_seeds(
            [shape | {"model.depth": depth} for depth in depths],
            2,
            where=lambda run: run["model.depth"] < max(depths),
        ),
    )
