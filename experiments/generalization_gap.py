"""How does the gap between training and held-out loss go with width, with data, and with the share
of labels that are wrong?

Perceptrons on MNIST-1D (Greydanus and Kobak 2020), trained for long. Each is evaluated on held-out
signals, as they are and with noise, on a sample of those that it was trained on (the gap), and on
those among them whose label is wrong (what it has memorised). The width varies; in `:data` the
number of signals does.
"""

from configs import mnist1d
from scaling.config import eval_set, is_debug
from scaling.config.sweep import Study, grid, with_seeds

WIDTHS, SIGNALS = (8, 32, 128, 512), (250, 1000, 4000)
WIDTH, SIGNAL = 128, 1000  # of the one that does not vary


def get_study(arg: str = "") -> Study:
    """Four widths (or three numbers of signals), two shares of wrong labels, three seeds."""
    of_data = arg.startswith("data")
    debug = is_debug(arg.removeprefix("data").removeprefix("_"))
    base = mnist1d.get_config("mlp")
    base.model.dropout = 0.0  # plain: what regularizes is left out
    base.optim.weight_decay = 0.0
    base.train.epochs = None
    base.train.steps = 4 if debug else 1500
    base.train.log_every = 2 if debug else 100
    base.evals.batches = 1 if debug else 16
    with base.unlocked():
        base.evals.sets.seen = eval_set(split="train")
        base.evals.sets.noise = eval_set(corruption="noise", severity=2)
    widths: tuple[int, ...] = (WIDTH,) if of_data else WIDTHS
    signals: tuple[int, ...] = SIGNALS if of_data else (SIGNAL,)
    if debug:
        widths, signals = (4,) if of_data else (4, 8), (64, 256) if of_data else (256,)
    axes = {"model.width": widths, "data.unique_examples": signals}
    clean = grid(axes | {"data.label_noise": [0.0]})
    wrong = [
        run | {"data.label_noise": 0.2, "evals.sets.wrong": {"split": "flipped"}} for run in clean
    ]
    return Study(
        name="generalization_gap_data" if of_data else "generalization_gap",
        question="How does the gap between training and held-out loss go with "
        + ("data, and with wrong labels?" if of_data else "width, and with wrong labels?"),
        base=base,
        runs=with_seeds([*clean, *wrong], 1 if debug else 3),
        x="unique" if of_data else "params",
        group="data.label_noise",
        holdout=False,
    )
