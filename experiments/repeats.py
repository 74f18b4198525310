"""What is a byte worth that is read again, and does a larger model make more of it?

Three widths; from 64 thousand to a million distinct bytes, each read once, twice, and so on until a
million bytes are read. Subsets are nested, and passes reshuffled. The data-constrained law of
Muennighoff et al. 2023 (arXiv 2305.16264) is fitted to all of them at once: R_D says after how many
repeats a byte is worth no more.
"""

from configs import tiny
from experiments.data import reads
from scaling.config.sweep import Study, product


def get_study(arg: str = "") -> Study:
    """Every number of distinct bytes, epochs of it, and width."""
    debug = arg == "debug"
    widths = (16, 32) if debug else (16, 32, 64)
    sizes = (512, 1024) if debug else tuple(2**k for k in range(16, 21))
    epochs = (1.0, 2.0) if debug else (1.0, 2.0, 4.0, 8.0, 16.0)
    shapes = [tiny.RECIPE.shape(width) for width in widths]
    read = reads(sizes, epochs, max(sizes) * (2 if debug else 1))
    return Study(
        name="repeats",
        question="What is a byte worth that is read again?",
        base=tiny.get_config(arg),
        runs=[run | {"train.tokens_per_param": None} for run in product(shapes, read)],
        x="tokens",
        law="data_constrained",
        group=("data.unique_tokens", "model.width"),
        holdout=False,
    )
