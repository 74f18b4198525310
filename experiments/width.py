"""Width alone: every model sees the same data."""

from configs import tiny
from scaling.sweep import Study, with_seeds


def get_study(arg: str = "") -> Study:
    """Six widths, four million bytes each, three seeds; the widest once."""
    widths = (8, 16, 24) if arg == "debug" else (16, 24, 32, 48, 64, 96)
    length = {
        "train.tokens_per_param": None,
        "train.tokens": 512.0 if arg == "debug" else 4e6,
    }
    return Study(
        name="width",
        question="How does the loss fall with width when the data stay the same?",
        base=tiny.get_config(arg),
        runs=with_seeds(
            [tiny.RECIPE.rung(width) | length for width in widths],
            2 if arg == "debug" else 3,
            where=lambda run: run["model.width"] < max(widths),
        ),
    )
