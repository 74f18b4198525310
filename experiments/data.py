"""Data alone: one model; more distinct bytes, and more passes over the same bytes.

Subsets are nested: the bytes of a smaller one are among those of a larger one. Passes over the same
bytes are reshuffled. One curve for each number of epochs.
"""

from configs import tiny
from scaling.config.sweep import Study, grid, product, with_seeds


def get_study(arg: str = "") -> Study:
    """Width 48; subsets of 32 kB to 1 MB; 1, 2, 4 and 8 epochs of those that leave time for it."""
    debug = arg == "debug"
    shape = tiny.RECIPE.rung(16 if debug else 48) | {"train.tokens_per_param": None}
    sizes = (512, 1024) if debug else tuple(2**k for k in range(15, 21))
    epochs = (1.0, 2.0) if debug else (1.0, 2.0, 4.0, 8.0)
    longest = max(sizes) * (2 if debug else 1)
    runs = grid(
        {"data.unique_tokens": sizes, "train.epochs": epochs},
        where=lambda run: run["data.unique_tokens"] * run["train.epochs"] <= longest,
    )
    return Study(
        name="data",
        question="What are more bytes worth, and what are repeated ones?",
        base=tiny.get_config(arg),
        runs=with_seeds(
            product([{k: v for k, v in shape.items() if k != "train.epochs"}], runs),
            2,
            where=lambda run: run["data.unique_tokens"] < max(sizes),
        ),
        x="unique_tokens",
        group="epochs",
    )
