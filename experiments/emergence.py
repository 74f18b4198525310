"""Is what looks sudden foretold by a loss that falls smoothly?

Transformers of growing width, trained for longer and longer, put up to eight symbols in order. The
loss falls at every size; that all of a row is right (`exact_match/sorted`) hardly happens in small
models, and then it does (Wei et al. 2022; Schaeffer et al. 2023, arXiv 2304.15004). Two steps
foretell it: the loss by size and data, and what is right by the loss.
"""

from configs import sequences
from scaling.config import eval_set, is_debug
from scaling.config.sweep import Study, grid

WIDTHS = (8, 12, 16, 24)
SYMBOLS = (2.5e5, 5e5, 1e6, 2e6)


def get_study(arg: str = "") -> Study:
    """Four widths, each on four lengths of training; "debug": a few steps."""
    debug = is_debug(arg)
    base = sequences.get_config(arg)
    base.data.source = "sort"
    base.data.length = 2 if debug else 8
    base.model.depth = 2
    base.optim.peak_lr = 3e-3
    base.train.batch_size = 8 if debug else 64
    with base.unlocked():
        base.evals.sets.sorted = eval_set(by="answers", part="x1")
    axes = {
        "model.width": (8, 16) if debug else WIDTHS,
        "train.units": (1024.0,) if debug else SYMBOLS,
    }
    return Study(
        name="emergence",
        question="Is what looks sudden foretold by a loss that falls smoothly?",
        base=base,
        runs=grid(axes),
        x="params",
        law="chinchilla",
    )
