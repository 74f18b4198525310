"""When does a network that knows its training examples by heart begin to understand them?

Sums modulo a prime (Power et al. 2022), of which a share is trained on: a small transformer has
them right soon, and the others long after. What varies is weight decay and that share; the figure
of `benchmarks/grokking.py` shows both accuracies over the steps, and how long lies between.
"""

from configs import sequences
from scaling.config import eval_set, is_debug
from scaling.config.sweep import Study, grid

DECAYS = (0.0, 0.3, 1.0)
SHARES = (0.4, 0.5, 0.6)


def get_study(arg: str = "") -> Study:
    """Three weight decays at one share, three shares at one weight decay; "debug": two steps."""
    debug = is_debug(arg)
    base = sequences.get_config("debug" if debug else "")
    base.data.source = "modular"
    base.data.length = 32
    base.data.validation_examples = 2048
    base.data.symbols = 7 if debug else 31
    base.data.train_share = 0.5
    base.train.units = None
    base.train.steps = 8 if debug else 8000
    base.train.batch_size = 16 if debug else 256
    base.train.steps_per_call = 1 if debug else 50
    base.train.log_every = 4 if debug else 100
    base.optim.schedule = "constant"
    base.optim.final_lr_fraction = 0.1
    base.optim.peak_lr = 1e-3
    base.optim.b2 = 0.98
    base.optim.warmup_fraction = None
    base.optim.warmup_steps = 1 if debug else 10
    base.evals.every = 4 if debug else 100
    base.evals.batches = 8
    base.evals.batch_size = 64 if debug else 256
    base.objective.z_loss = 0.0
    if not debug:
        base.model.width = 64
        base.model.heads = 4
    with base.unlocked():
        base.evals.sets.seen = eval_set(split="train")
    decays = DECAYS[1:] if debug else DECAYS
    runs = grid({"optim.weight_decay": decays, "data.train_share": (SHARES[1],)})
    others = (SHARES[0], SHARES[2])[debug:]
    runs += grid({"optim.weight_decay": (1.0,), "data.train_share": others})
    return Study(
        name="grokking",
        question="How long after the training examples are the others right?",
        base=base,
        runs=runs,
        x="optim.weight_decay",
        group="data.train_share",
        holdout=False,
        log_x=False,
    )
