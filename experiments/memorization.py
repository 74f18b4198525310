"""Who remembers a secret: how often it must be read, by models of which size?

Byte models of several widths read code in which secrets are planted, once, 4, 16 and 64 times, and
pass over it once or several times. Their exposure is by how much they prefer them to others of the
same form (Carlini et al. 2019, The Secret Sharer, arXiv 1802.08232).
"""

from configs import tiny
from scaling.config import eval_set, from_dict, is_debug
from scaling.config.sweep import Study, grid, product, with_seeds

WIDTHS, EPOCHS = (16, 24, 32, 48, 64), (1.0, 4.0)


def get_study(arg: str = "") -> Study:
    """Five widths, one or four passes over 256 kB, three seeds; "debug": a few steps."""
    debug = is_debug(arg)
    base = tiny.get_config(arg)
    base.data.canaries = 1 if debug else 8
    base.data.canary_repeats = 4 if debug else 64
    base.data.unique_tokens = 2**11 if debug else 2**18
    base.data.seq_len = 128
    with base.unlocked():
        for times in (1, 4) if debug else (1, 4, 16, 64):
            base.evals.sets[f"x{times}"] = eval_set(by="exposure", repeats=times)
    epochs = grid({"train.tokens_per_param": [None], "train.epochs": EPOCHS})
    widths = (16, 24) if debug else WIDTHS
    shapes = [tiny.RECIPE.shape(width, from_dict(base)) for width in widths]
    return Study(
        name="memorization",
        question="How often must a secret be read to be remembered, by models of which size?",
        base=base,
        runs=with_seeds(product(shapes, epochs), 1 if debug else 3),
        x="params",
        holdout=False,
    )
