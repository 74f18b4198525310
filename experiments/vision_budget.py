"""How width and images share a budget: residual networks on the digits of `configs/vision.py`.

Four widths, each on a third, one, three and nine images a parameter of the smallest; a law of both
is what `launch.py plan --recipe=configs.vision:RECIPE` plans with.
"""

from configs import vision
from scaling.config import from_dict
from scaling.config.sweep import Study, grid, product, with_seeds


def get_study(arg: str = "") -> Study:
    """Sixteen runs of two seeds each; arg "debug" makes six of a few steps."""
    debug = arg == "debug"
    base = vision.get_config(arg)
    widths, images = ((4, 8), (64, 128, 256)) if debug else ((4, 8, 12, 16), (2e3, 6e3, 18e3, 54e3))
    shapes = [vision.RECIPE.shape(width, from_dict(base)) for width in widths]
    lengths = grid({"train.units": [float(n) for n in images]})
    runs = [run | {"train.epochs": None} for run in product(shapes, lengths)]
    return Study(
        name="vision_budget",
        question="How do width and images share a budget of compute?",
        base=base,
        runs=with_seeds(runs, 1 if debug else 2),
        x="params",
        law="chinchilla",
        delta=1e-2,
        holdout=False,
    )
