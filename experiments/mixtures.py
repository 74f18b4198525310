"""How does the loss on code and on prose follow from how much of each a model reads?

Byte models of three widths read 128 thousand bytes each, of which none to three quarters are prose;
every run is evaluated on both. The law of mixing (`mixture_2`) is fitted to the loss on each.
"""

from configs import tiny
from scaling.config import eval_set, is_debug
from scaling.config.sweep import Study, grid, product, with_seeds

SHARES = (0.0, 0.0625, 0.125, 0.25, 0.5, 0.75)  # of prose


def get_study(arg: str = "") -> Study:
    """Three widths by six shares; "debug": two shares of two small models."""
    debug = is_debug(arg)
    base = tiny.get_config(arg)
    tiny.strip(base)
    base.data.part = "code"
    base.data.validation_fraction = 0.2  # the prose is short
    base.evals.batches = 2 if debug else 32
    base.train.tokens = 1024.0 if debug else 128e3
    with base.unlocked():
        base.evals.sets.docs = eval_set(part="docs")
    rungs = [tiny.RECIPE.rung(width) for width in ((8, 16) if debug else (16, 32, 48))]
    shapes = [{k: v for k, v in rung.items() if not k.startswith("train.")} for rung in rungs]
    shares = grid({"mixture.shares.docs": (0.0, 0.25) if debug else SHARES})
    return Study(
        name="mixtures",
        question="How does the loss on code and prose follow from how much of each is read?",
        base=base,
        runs=with_seeds(product(shapes, shares), 1 if debug else 2),
        x="mixture.shares.docs",
        group="width",
        holdout=False,
        log_x=False,
    )
