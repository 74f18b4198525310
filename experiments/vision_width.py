"""Residual networks and plain perceptrons: how the error of each on handwritten digits falls with
its size.
"""

from configs import vision
from scaling.config.sweep import Study, chain, with_seeds

# Of each family, widths of like numbers of parameters at the ends.
WIDTHS = {"resnet": (2, 3, 4, 6, 8, 12), "mlp": (16, 32, 64, 96, 128, 192)}
# A perceptron's steps are a tenth of the work, and it needs more of them.
FIELDS = {
    "resnet": {"model.family": "resnet", "model.depth": 1},
    "mlp": {"model.family": "mlp", "model.depth": 2, "optim.peak_lr": 3e-3, "train.epochs": 40.0},
}


def get_study(arg: str = "") -> Study:
    """Six widths of two families, five seeds each."""
    debug = arg == "debug"
    runs = []
    for family, widths in WIDTHS.items():
        fields = {k: v for k, v in FIELDS[family].items() if not (debug and k == "train.epochs")}
        runs += [fields | {"model.width": width} for width in ((4, 8) if debug else widths)]
    return Study(
        name="vision_width",
        question="How does the loss on digits fall with the size of a network, with and without "
        "convolutions?",
        base=vision.get_config(arg),
        runs=chain(with_seeds(runs, 1 if debug else 5)),
        x="params",
        group="model.family",
        delta=1e-2,
    )
