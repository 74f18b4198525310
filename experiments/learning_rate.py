"""Which peak learning rate does each width want? The quick start's 0.43 / width comes from here."""

from configs import tiny
from experiments.quickstart import rung
from scaling.sweep import Study, chain


def get_study(arg: str = "") -> Study:
    """Half, one and two times the quick start's learning rate at each width."""
    widths = (8, 16) if arg == "debug" else (16, 24, 32, 48, 64)
    runs = [
        rung(width) | {"optim.peak_lr": round(factor * 0.43 / width, 6)}
        for factor in (0.5, 0.71, 1.0, 1.41, 2.0)
        for width in widths
    ]
    return Study(
        name="learning_rate",
        question="Which peak learning rate does each width want?",
        base=tiny.get_config(arg),
        runs=chain(runs),
        x="optim.peak_lr",
        group="model.width",
        holdout=False,
    )
