"""Loss against compute of every family of images on the digits: convolutions in eight kinds of
blocks, patches by attention and by MLPs, and perceptrons.

Two widths of each, all on as many images, with the learning rates of `configs/vision.py`.
"""

from configs import vision
from scaling.config.sweep import Override, Study, chain, with_seeds

_PATCHES: Override = {"model.depth": 2, "model.scan_layers": False}
# Of each family, its fields and widths, from some thousand parameters to some tens of thousands.
FAMILIES: dict[str, tuple[Override, tuple[int, int]]] = {
    "resnet": ({"model.family": "resnet", "optim.peak_lr": 1e-2}, (4, 12)),
    **{
        block: ({"model.family": "convnet", "model.block": block, "optim.peak_lr": 1e-2}, widths)
        for block, widths in {
            "plain": (4, 16),
            "dense": (8, 24),
            "inception": (8, 16),
            "inverted": (4, 12),
            "mbconv": (4, 12),
            "shuffle": (8, 24),
            "convnext": (8, 16),
        }.items()
    },
    "vit": (_PATCHES | {"model.family": "vit", "model.pool": "mean"}, (16, 32)),
    "mixer": (_PATCHES | {"model.family": "mixer"}, (16, 32)),
    "mlp": ({"model.family": "mlp", "model.depth": 2}, (32, 128)),
}


def get_study(arg: str = "") -> Study:
    """Eleven families of two widths, two seeds each."""
    debug = arg == "debug"
    base = vision.get_config(arg)
    if not debug:
        base.train.batch_size = 64
        base.train.epochs = 10.0
        base.optim.peak_lr = 3e-3
        base.evals.batches = 16
    runs = []
    for name, (fields, widths) in FAMILIES.items():
        if not debug:
            runs += [fields | {"model.width": width} for width in widths]
        elif name in ("inverted", "vit"):
            runs.append(fields | {"model.width": widths[0]})
    return Study(
        name="vision_families",
        question="Which families of images have the lower loss for the same compute?",
        base=base,
        runs=chain(with_seeds(runs, 1 if debug else 2)),
        x="flops",
        holdout=False,
        group=("model.family", "model.block"),
        delta=1e-2,
    )
