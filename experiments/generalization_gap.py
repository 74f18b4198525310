"""How does the gap between training and held-out loss go with width, with data, and with the share
of labels that are wrong?

Perceptrons on MNIST-1D (Greydanus and Kobak 2020), trained until they fit what they can. Each is
evaluated on held-out signals, on a sample of those that it was trained on (the gap), on those among
them whose label is wrong (what it has memorised), and on held-out signals made worse in four ways.
"""

from configs import mnist1d
from scaling.config import eval_set, is_debug
from scaling.config.sweep import Study, grid, with_seeds


def get_study(arg: str = "") -> Study:
    """Four widths, three amounts of data, two shares of wrong labels, three seeds."""
    debug = is_debug(arg)
    base = mnist1d.get_config("mlp")
    base.optim.weight_decay = 0.0
    base.train.epochs = None
    base.train.steps = 4 if debug else 3000
    base.train.log_every = 2 if debug else 100
    base.evals.batches = 1 if debug else 16
    with base.unlocked():
        base.evals.sets.seen = eval_set(split="train")
        for name in ("noise", "blur", "contrast", "occlusion"):
            base.evals.sets[name] = eval_set(corruption=name, severity=3)
    widths, counts = ((4, 8), (256,)) if debug else ((8, 32, 128, 512), (500, 1400, 4000))
    clean = grid({"model.width": widths, "data.unique_examples": counts, "data.label_noise": [0.0]})
    wrong = [
        run | {"data.label_noise": 0.2, "evals.sets.wrong": {"split": "flipped"}} for run in clean
    ]
    return Study(
        name="generalization_gap",
        question="How does the gap between training and held-out loss go with width and data?",
        base=base,
        runs=with_seeds([*clean, *wrong], 1 if debug else 3),
        x="params",
        group=("data.label_noise",) if debug else ("data.unique_examples", "data.label_noise"),
        holdout=False,
    )
