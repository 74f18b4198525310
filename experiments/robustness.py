"""What does robustness cost on clean images, and do width and data pay for it?

Residual networks of several widths on all digits and on a quarter of them, trained on images as
they are and on attacked ones, and evaluated on held-out images as they are, moved along the
gradient's sign (`fgsm`) and by projected gradient ascent (`pgd`).
"""

from configs import vision
from scaling.config import eval_set, is_debug
from scaling.config.sweep import Study, grid, with_seeds

EPSILON = 0.3  # standard deviations of a pixel


def get_study(arg: str = "") -> Study:
    """Three widths, two sizes of data, with and without attacks in training, three seeds; "debug":
    few steps and one.
    """
    debug = is_debug(arg)
    base = vision.get_config(arg)
    base.train.epochs = None
    base.train.steps = 4 if debug else 600
    with base.unlocked():
        base.evals.sets.fgsm = eval_set(by="attack", epsilon=EPSILON, steps=1)
        base.evals.sets.pgd = eval_set(by="attack", epsilon=EPSILON, steps=2 if debug else 10)
    axes = {
        "model.width": (4, 8) if debug else (4, 8, 16),
        "data.unique_examples": (64,) if debug else (360, 1437),
    }
    clean = grid(axes)
    hardened = [
        run | {"attack.epsilon": EPSILON, "attack.steps": 2 if debug else 5} for run in clean
    ]
    return Study(
        name="robustness",
        question="What does robustness cost on clean images, and do width and data pay for it?",
        base=base,
        runs=with_seeds([*clean, *hardened], 1 if debug else 3),
        x="params",
        group=("attack.epsilon",) if debug else ("attack.epsilon", "data.unique_examples"),
        holdout=False,
    )
