"""The quick start: how does the loss fall when width and data grow together?

Widths 16 to 112 at two blocks, 10 training bytes a parameter: 30 times more parameters, about 600
times more compute, from the first to the last. Three seeds where they are cheap. The law is fitted
without the largest model and then asked for its loss. `configs/tiny.py` says how the learning rate
was chosen.
"""

from configs import tiny
from scaling.sweep import Study, with_seeds


def get_study(arg: str = "") -> Study:
    """The study; arg "debug" trains three widths for a few steps."""
    base = tiny.get_config(arg)
    widths = (8, 16, 24) if arg == "debug" else (16, 24, 32, 48, 64, 112)
    length = {"train.tokens_per_param": base.train.tokens_per_param}
    return Study(
        name="quickstart",
        question="How does the loss of a byte model of Python code fall when it grows?",
        base=base,
        runs=with_seeds(
            [tiny.RECIPE.rung(width) | length for width in widths],
            2 if arg == "debug" else 3,
            where=lambda run: run["model.width"] < max(widths),
        ),
    )
