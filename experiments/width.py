"""Width alone: the data are the same for every model, and plentiful for the smallest."""

from configs import tiny
from experiments.quickstart import rung
from scaling.sweep import Study, chain, with_seeds


def get_study(arg: str = "") -> Study:
    """Six widths, four million bytes each, three seeds; the widest once."""
    base = tiny.get_config(arg)
    widths = (8, 16, 24) if arg == "debug" else (16, 24, 32, 48, 64, 96)
    if arg != "debug":
        base.train.tokens_per_param = None
        base.train.tokens = 4e6
    return Study(
        name="width",
        question="How does the loss fall with width when the data stay the same?",
        base=base,
        runs=with_seeds(
            chain([rung(width) for width in widths]),
            3,
            where=lambda run: run["model.width"] < max(widths),
        ),
    )
