"""What a linear probe of 100 labels makes of the features of encoders that were trained without
any: on two views of each image, on hidden patches; against the number of images that they were
trained on, for two widths, beside encoders that were not trained at all.
"""

from configs import self_supervised
from scaling.config import flat, from_dict
from scaling.config.sweep import Override, Study, chain, product, with_seeds

WIDTHS = {"": (8, 16), "masked": (16, 32)}  # of each method
UPDATES = 300
_GROUPS = ("model", "objective", "optim")


def get_study(arg: str = "") -> Study:
    """Two methods, two widths, four numbers of images, two seeds; and untrained ones."""
    debug = arg == "debug"
    base = self_supervised.get_config(arg)
    base.train.epochs = None
    images = (128,) if debug else (128, 256, 512, None)
    trained: Override = {"train.steps": 4 if debug else UPDATES}
    # No step is taken at a rate of 0: the encoder as it began.
    untrained: Override = {"train.steps": 1, "optim.peak_lr": 0.0}
    runs = []
    for method, widths in WIDTHS.items():
        chosen = widths[:1] if debug else widths
        fields = [_fields(method) | {"model.width": width} for width in chosen]
        seen = [trained | {"data.unique_examples": count} for count in images]
        runs += product(fields, seen)
        runs += [one | untrained for one in fields]
    return Study(
        name="self_supervised",
        question="What do encoders learn without labels, from how many images, at which width?",
        base=base,
        runs=chain(with_seeds(runs, 1 if debug else 2)),
        x="unique",
        group=("model.width", "train.steps"),
        holdout=False,
    )


def _fields(method: str) -> Override:
    """What the config of a method has of its own."""
    fields = flat(from_dict(self_supervised.get_config(method)))
    return {name: value for name, value in fields.items() if name.split(".")[0] in _GROUPS}
