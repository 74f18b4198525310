"""Width alone: every model sees the same data."""

from configs import tiny
from scaling.config.sweep import Study, with_seeds


def get_study(arg: str = "") -> Study:
    """Seven widths, a million bytes each, two seeds; the widest once."""
    widths = (8, 16, 24) if arg == "debug" else (16, 24, 32, 40, 48, 64, 80)
    length = {
        "train.tokens_per_param": None,
        "train.tokens": 512.0 if arg == "debug" else 1e6,
    }
    return Study(
        name="width",
        question="How does the loss fall with width when the data stay the same?",
        base=tiny.get_config(arg),
        runs=with_seeds(
            [tiny.RECIPE.rung(width) | length for width in widths],
            2,
            where=lambda run: run["model.width"] < max(widths),
        ),
    )
