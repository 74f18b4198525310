"""Scenes of handwritten digits and what is said of them: two towers with a contrastive loss, some
minutes on two cores; ":questions", a network that answers what is asked of a scene.

Sized for a laptop; `:debug` and `:questions_debug` for seconds. `--config.data.source=` takes
captions in several languages, and images of one's own (docs/data.md).
"""

import ml_collections

from scaling.config import base_config, eval_set, is_debug
from scaling.studies.ladder import Recipe

# Two blocks in each reader at any width, under muP at one rate, which is that of questions
# (`experiments/learning_rate.py:scenes`).
RECIPE = Recipe(
    model={"head_dim": 16},
    aspect=float("inf"),
    parametrization="mup",
    base_width=64,
    lr=1.5e-3,
    lr_exponent=0.0,
    batch_size=64,
    units_per_param=0.5,
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The base run of studies of images with texts; arg "debug" shrinks it."""
    asks = arg.startswith("questions")
    debug = is_debug(arg.removeprefix("questions").removeprefix("_"))
    family, objective = ("fusion", "classification") if asks else ("two_towers", "contrastive")
    config = base_config(family=family, data="scenes", objective=objective)
    config.model.width = 64
    config.model.depth = 2
    config.model.heads = 4
    config.model.scan_layers = False  # few blocks: faster on a CPU
    config.optim.peak_lr = RECIPE.lr if asks else 3e-3  # the towers' was tried at this width alone
    config.train.batch_size = 64
    config.train.steps = 1500
    config.train.log_every = 50
    config.evals.batches = 10
    config.evals.batch_size = 100  # among which the right one is to be found
    if asks:
        config.data.task = "questions"
        with config.unlocked():
            config.evals.sets.no_image = eval_set(corruption="no_image")
            config.evals.sets.no_text = eval_set(corruption="no_text")
    if debug:
        config.model.width = 16
        config.model.depth = 1
        config.model.heads = 1
        config.train.batch_size = 8
        config.train.steps = 4
        config.train.log_every = 2
        config.evals.batches = 1
        config.evals.batch_size = 8
    return config
