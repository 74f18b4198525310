"""What does robustness cost on clean examples, and do width and data pay for it?

Residual networks of several widths on all digits and on a quarter of them, trained on images as
they are and on attacked ones, and evaluated on held-out images as they are, moved along the
gradient's sign (`fgsm`) and by projected gradient ascent (`pgd`). `:text`: encoders that tell the
language of a name, moved in what their tokens are looked up as.
"""

import ml_collections

from configs import bert, vision
from scaling.config import eval_set, form_of, from_dict
from scaling.config.sweep import Override, Study, grid, with_seeds

EPSILON = 0.3  # standard deviations of a pixel
SHARE = 0.05  # of the root mean square of what a text's tokens are looked up as
STEPS = 5  # of an attack in training; each costs a pass more


def get_study(arg: str = "") -> Study:
    """Three widths, two sizes of data, with and without attacks in training, three seeds; "debug":
    few steps and one.
    """
    form, debug = form_of(arg, ("", "text"))
    return (_text if form else _digits)(debug)


def _digits(debug: bool) -> Study:
    base = vision.get_config("debug" if debug else "")
    base.train.epochs = None
    base.train.steps = 4 if debug else 600
    axes = {
        "model.width": (4, 8) if debug else (4, 8, 16),
        "data.unique_examples": (64,) if debug else (360, 1437),
    }
    return _study("robustness", base, grid(axes), EPSILON, debug)


def _text(debug: bool) -> Study:
    """All names that there are at each width, and a quarter of them at the middle one."""
    base = bert.get_config("names_debug" if debug else "names")
    base.train.steps = 4 if debug else 600
    widths, few = ((16,), 64) if debug else ((16, 32, 64), 2048)
    runs = [bert.RECIPE.shape(width, from_dict(base)) for width in widths]
    runs.append(runs[len(runs) // 2] | {"data.unique_examples": few})
    return _study("robustness_text", base, runs, SHARE, debug)


def _study(
    name: str, base: ml_collections.ConfigDict, runs: list[Override], epsilon: float, debug: bool
) -> Study:
    """Each run as it is, and on attacked examples."""
    with base.unlocked():
        base.evals.sets.fgsm = eval_set(by="attack", epsilon=epsilon, steps=1)
        base.evals.sets.pgd = eval_set(by="attack", epsilon=epsilon, steps=2 if debug else 10)
    hard = {"attack.epsilon": epsilon, "attack.steps": 2 if debug else STEPS}
    return Study(
        name=name,
        question="What does robustness cost on clean examples, and do width and data pay for it?",
        base=base,
        runs=with_seeds([*runs, *(run | hard for run in runs)], 1 if debug else 3),
        x="params",
        group=("attack.epsilon",)
        if debug and name == "robustness"
        else ("attack.epsilon", "data.unique_examples"),
        holdout=False,
    )
