"""Data alone: one model; more distinct bytes, and more passes over the same bytes.

Subsets are nested: the bytes of a smaller one are among those of a larger one. Passes over the same
bytes are reshuffled. One curve for each number of epochs.
"""

from configs import tiny
from experiments.quickstart import rung
from scaling.sweep import Study, grid, product, with_seeds


def get_study(arg: str = "") -> Study:
    """Width 48; subsets of 64 kB to 2 MB; 1, 2, 4 and 8 epochs of the smaller ones."""
    base = tiny.get_config(arg)
    sizes = (1024, 2048, 4096) if arg == "debug" else [2**k for k in range(16, 22)]
    most = max(sizes)
    base.train.steps = base.train.tokens_per_param = None
    base.train.epochs = 1.0
    runs = product(
        [rung(16 if arg == "debug" else 48)],
        grid(
            {"data.unique_tokens": sizes, "train.epochs": (1.0, 2.0, 4.0, 8.0)},
            where=lambda run: run["data.unique_tokens"] * run["train.epochs"] <= 2 * most,
        ),
    )
    return Study(
        name="data",
        question="What are more bytes worth, and what are repeated ones?",
        base=base,
        runs=with_seeds(runs, 2, where=lambda run: run["data.unique_tokens"] < most),
        x="unique_tokens",
        group="train.epochs",
    )
