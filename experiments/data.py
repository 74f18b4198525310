"""Data alone: one model; more distinct bytes, and more passes over the same bytes.

Subsets are nested: the bytes of a smaller one are among those of a larger one. Passes over the same
bytes are reshuffled. One curve for each number of epochs.
"""

from collections.abc import Sequence

from configs import tiny
from scaling.config.sweep import Override, Study, grid, product, with_seeds


def get_study(arg: str = "") -> Study:
    """Width 48; subsets of 32 kB to 1 MB; 1, 2, 4 and 8 epochs of those that leave time for it."""
    debug = arg == "debug"
    shape = tiny.RECIPE.shape(16 if debug else 48) | {"train.tokens_per_param": None}
    sizes = (512, 1024) if debug else tuple(2**k for k in range(15, 21))
    epochs = (1.0, 2.0) if debug else (1.0, 2.0, 4.0, 8.0)
    runs = reads(sizes, epochs, max(sizes) * (2 if debug else 1))
    return Study(
        name="data",
        question="What are more bytes worth, and what are repeated ones?",
        base=tiny.get_config(arg),
        runs=with_seeds(
            product([shape], runs),
            2,
            where=lambda run: run["data.unique_tokens"] < max(sizes),
        ),
        x="unique_tokens",
        group="epochs",
    )


def reads(sizes: Sequence[int], epochs: Sequence[float], most: int) -> list[Override]:
    """Every number of distinct bytes with every number of epochs that reads at most so much."""
    return grid(
        {"data.unique_tokens": sizes, "train.epochs": epochs},
        where=lambda run: run["data.unique_tokens"] * run["train.epochs"] <= most,
    )
