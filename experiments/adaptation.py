"""Which share of the old data does a model need that is trained on with new data, and for how long?

Byte models of three widths that have read code read prose for three lengths, with none to a half of
code among it; every run is evaluated on both, and its table says what of code it has forgotten.
"""

from configs import tiny
from scaling.config import eval_set, is_debug
from scaling.config.sweep import Override, Study, grid, product

SHARES = (0.0, 0.015625, 0.0625, 0.25, 0.5)  # of code
LENGTHS = (32e3, 96e3, 288e3)  # bytes, of both
RATE = 0.5  # of the recipe's, as in experiments/finetune.py


def get_study(arg: str = "") -> Study:
    """Three widths by five shares by three lengths; "debug": two of each, one width."""
    debug = is_debug(arg)
    base = tiny.get_config(arg)
    tiny.strip(base)
    base.data.validation_fraction = 0.2  # the prose is short
    base.evals.batches = 2 if debug else 32
    with base.unlocked():
        base.evals.sets.code = eval_set(part="code")
    lengths = (512.0, 1024.0) if debug else LENGTHS
    shares = (0.0, 0.25) if debug else SHARES
    runs = list[Override]()
    for width in (8,) if debug else (16, 32, 48):
        rung = tiny.RECIPE.rung(width)
        shape = {name: value for name, value in rung.items() if not name.startswith("train.")}
        before = shape | {"data.part": "code", "train.tokens": 1024.0 if debug else 500e3}
        after = {
            "data.part": "docs",
            "begins.run": before,
            "optim.peak_lr": RATE * rung["optim.peak_lr"],
        }
        axes = {"mixture.shares.code": shares, "train.tokens": lengths}
        runs += [before, *product([shape | after], grid(axes))]
    return Study(
        name="adaptation",
        question="Which share of old data does a model need that is trained on with new data?",
        base=base,
        runs=runs,
        x="amount",
        group=("mixture.shares.code",) if debug else ("mixture.shares.code", "width"),
        holdout=False,
    )
