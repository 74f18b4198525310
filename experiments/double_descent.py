"""Does the test loss peak where a model has as many parameters as its data have numbers to fit?

A read-out of random features of a ReLU on the power-law task, with and without noise on its
targets. Gradient descent on all examples at once ends at the read-out of least norm, which fits
the 96 examples as soon as it has 96 features; there its norm, and with it the test loss, is largest
(Belkin et al. 2019, arXiv 1812.11118; Hastie et al. 2022, arXiv 1903.08560, section 3).
"""

from configs import vectors
from scaling.config import is_debug
from scaling.config.sweep import Study, grid, with_seeds

EXAMPLES = 96
WIDTHS = (8, 24, 64, 96, 128, 192, 384, 768)  # one parameter a feature and target


def get_study(arg: str = "") -> Study:
    """Eight widths around the number of examples, with two amounts of noise, three seeds."""
    debug = is_debug(arg)
    base = vectors.get_config(arg)
    base.model.activation = "relu"
    if not debug:
        base.data.features = 256
        base.data.targets = 4
        base.data.unique_examples = EXAMPLES
        base.train.batch_size = EXAMPLES
        # Near the threshold the smallest eigenvalues of the Hessian go to zero: the longer the
        # training, the higher the peak.
        base.train.steps = 2000
        base.optim.b1 = 0.99
    widths, noises = (4, 8) if debug else WIDTHS, (0.0, 0.5)
    runs = [
        run | {"optim.peak_lr": vectors.learning_rate(run["model.width"])}
        for run in grid({"model.width": widths, "data.noise": noises})
    ]
    # Each seed has a task, examples and features of its own.
    seeded = [
        run | {"model.feature_seed": run["seed"], "data.task_seed": run["seed"]}
        for run in with_seeds(runs, 1 if debug else 3)
    ]
    return Study(
        name="double_descent",
        question="Does the test loss peak where the parameters are as many as the numbers to fit?",
        base=base,
        runs=seeded,
        x="params",
        group="data.noise",
        holdout=False,
    )
