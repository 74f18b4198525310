"""What is left of what a model learned, on rows of twice, four and eight times the length?

Transformers with rotary positions, these interpolated, linear biases, and no positions, on
copies of up to 12 symbols and on a Markov chain of order two (`:markov`), evaluated on rows of
the trained length, and longer ones. `benchmarks/length.py` draws the accuracies.
"""

from configs import sequences
from scaling.config import eval_set, is_debug
from scaling.config.sweep import Study

POSITIONS = ("rope", "interpolated", "alibi", "none")
TIMES = (1, 2, 4, 8)


def get_study(arg: str = "") -> Study:
    """Four kinds of positions; "debug" and "markov_debug" make a few steps."""
    of_chain = arg.startswith("markov")
    debug = is_debug(arg.removeprefix("markov").removeprefix("_"))
    base = sequences.get_config("debug" if debug else "")
    base.model.depth = 2
    if of_chain:
        base.data.order = 2
        base.data.symbols = 8
        base.data.length = 8 if debug else 32
    else:
        base.data.source = "copy"
        base.data.symbols = 8
        base.data.length = 3 if debug else 12
    base.data.validation_examples = 64 if debug else 1024
    base.evals.batches = 1 if debug else 16
    base.evals.batch_size = 64
    base.train.units = 1024.0 if debug else 1.5e6
    base.train.batch_size = 8 if debug else 64
    base.optim.peak_lr = 3e-3
    if not debug:
        base.model.width = 64
        base.model.heads = 4
    with base.unlocked():
        for times in TIMES:
            base.evals.sets[f"x{times}"] = eval_set(part=f"x{times}")
    places = base.data.length * (1 if of_chain else 2) + (0 if of_chain else 1)
    kinds = [
        {"model.positions": "rope" if kind == "interpolated" else kind}
        | ({"model.rope_length": places} if kind == "interpolated" else {})
        for kind in POSITIONS
    ]
    return Study(
        name="length_markov" if of_chain else "length",
        question="What is left of what a model learned, on longer rows?",
        base=base,
        runs=kinds,
        x="params",
        group=("model.positions", "model.rope_length"),
        holdout=False,
    )
