"""Depth alone: one width, one amount of data, one to twelve blocks."""

from configs import tiny
from experiments.quickstart import rung
from scaling.sweep import Study, grid, product, with_seeds


def get_study(arg: str = "") -> Study:
    """Six depths of width 48, two million bytes each, three seeds; the deepest once."""
    base = tiny.get_config(arg)
    depths = (1, 2, 3) if arg == "debug" else (1, 2, 3, 4, 6, 10)
    if arg != "debug":
        base.train.tokens_per_param = None
        base.train.tokens = 2e6
    return Study(
        name="depth",
        question="How does the loss fall with depth when width and data stay the same?",
        base=base,
        runs=with_seeds(
            product([rung(16 if arg == "debug" else 48)], grid({"model.depth": depths})),
            3,
            where=lambda run: run["model.depth"] < max(depths),
        ),
    )
