"""Does a circuit appear at the same loss at every size?

Transformers of four widths read rows of which each is a Markov chain of its own, so that what
follows a symbol must be read off what followed it before: the work of an induction head, which
needs two blocks (Olsson et al. 2022, arXiv 2209.11895). Along training: the scores of the best
heads, the loss on random text that is read twice, and the loss behind each block by the logit lens.
One block, which cannot have the circuit, is the control. `benchmarks/circuits.py` draws the way.
"""

from configs import sequences
from scaling.config import eval_set, is_debug
from scaling.config.sweep import Study, chain, grid, with_seeds

WIDTHS = (8, 16, 32, 64)
STEPS = 1200


def get_study(arg: str = "") -> Study:
    """Four widths, two seeds with two blocks and one with one; "debug": a few steps."""
    debug = is_debug(arg)
    base = sequences.get_config(arg)
    base.data.source = "own_chains"
    base.data.symbols = 8
    base.data.concentration = 0.1
    base.data.length = 16 if debug else 64
    base.data.validation_examples = 64 if debug else 512
    base.optim.peak_lr = 5e-3
    base.train.batch_size = 8 if debug else 32
    base.train.units = 1024.0 if debug else STEPS * 32 * 64
    base.evals.every = 4 if debug else 40
    base.evals.batches = 1 if debug else 2
    with base.unlocked():
        base.evals.sets.twice = eval_set(by="induction")
        # The one block that all of them have, and the stream before it.
        for blocks in (0, 1):
            base.evals.sets[f"lens{blocks}"] = eval_set(by="lens", blocks=blocks)
    widths = (8, 16) if debug else WIDTHS
    two = grid({"model.depth": [2], "model.width": widths})
    one = grid({"model.depth": [1], "model.width": widths})
    return Study(
        name="circuits",
        question="Does a circuit appear at the same loss at every size?",
        base=base,
        runs=chain(with_seeds(two, 1 if debug else 2), one),
        x="params",
        group="model.depth",
        holdout=False,
    )
