"""How a residual network's error on handwritten digits falls with its width."""

from configs import vision
from scaling.config.sweep import Study, grid, with_seeds


def get_study(arg: str = "") -> Study:
    """Six widths, five seeds each; every run sees each digit twenty times."""
    debug = arg == "debug"
    widths = (4, 8) if debug else (2, 3, 4, 6, 8, 12)
    return Study(
        name="vision_width",
        question="How does the loss on digits fall with the width of a residual network?",
        base=vision.get_config(arg),
        runs=with_seeds(grid({"model.width": widths}), 1 if debug else 5),
        x="params",
        delta=1e-2,
    )
