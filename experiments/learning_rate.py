"""Which peak learning rate does each width want? The recipe of `configs/tiny.py` is its answer."""

from configs import tiny
from scaling.config.sweep import Study, with_seeds


def get_study(arg: str = "") -> Study:
    """Half to two times the recipe's learning rate at each width; two seeds but for the largest."""
    base = tiny.get_config(arg)
    widths = (8, 16) if arg == "debug" else (20, 24, 32, 40, 56)
    length = {"train.tokens_per_param": base.train.tokens_per_param}
    runs = []
    for factor in (0.5, 1.0, 2.0) if arg == "debug" else (0.5, 0.71, 1.0, 1.41, 2.0):
        for width in widths:
            rung = tiny.RECIPE.rung(width) | length
            runs.append(rung | {"optim.peak_lr": rung["optim.peak_lr"] * factor})
    return Study(
        name="learning_rate",
        question="Which peak learning rate does each width want?",
        base=base,
        runs=with_seeds(runs, 2, where=lambda run: run["model.width"] < max(widths)),
        x="optim.peak_lr",
        group="model.width",
        holdout=False,
    )
