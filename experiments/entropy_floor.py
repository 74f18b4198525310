"""Does the loss end at the entropy of its source, and does the law's floor say where that is?

Transformers of six widths on a Markov chain of order two (`:hidden`: on a hidden one), whose
entropy is known. Data have no end and are seen once, the same amount by all, so that what is left
above the entropy is what the model cannot hold.
"""

from configs import sequences
from scaling.config import is_debug
from scaling.config.sweep import Study


def get_study(arg: str = "") -> Study:
    """Six widths; "debug" and "hidden_debug" make three."""
    of_hidden = arg.startswith("hidden")
    debug = is_debug(arg.removeprefix("hidden").removeprefix("_"))
    base = sequences.get_config("debug" if debug else "")
    base.model.depth = 2
    base.model.head_dim = 4
    if of_hidden:
        base.data.source = "hidden_markov"
        base.data.states = 4
    else:
        base.data.order = 2
    base.data.symbols = 8
    if not debug:
        base.data.length = 64
        base.data.validation_examples = 16_384
        base.evals.batches = 64
        base.train.batch_size = 16
        base.train.units = 2.0**20
    widths = (4, 8, 12) if debug else (4, 8, 12, 16, 24, 32)
    sizes = [{"model.width": w, "model.heads": w // 4, "optim.peak_lr": _rate(w)} for w in widths]
    return Study(
        name="entropy_floor_hidden" if of_hidden else "entropy_floor",
        question="Does the law's floor hold the entropy of the source?",
        base=base,
        runs=sizes,
        x="params",
        holdout=False,
    )


def _rate(width: int) -> float:
    """Peak learning rate: smaller for wider models, as Adam's steps add up over the channels."""
    return 0.02 * (8 / width) ** 0.5
