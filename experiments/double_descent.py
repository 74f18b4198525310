"""Does the test loss peak where a model has as many parameters as its data have numbers to fit?

A read-out of random features of a ReLU on the power-law task, with and without noise on its
targets. Gradient descent on all examples at once ends at the read-out of least norm, which fits
the 96 examples as soon as it has 96 features; there its norm, and with it the test loss, is largest
(Belkin et al. 2019, arXiv 1812.11118; Hastie et al. 2022, arXiv 1903.08560, section 3).
`:data`: the same for 96 features and more and more examples, so that more data make it worse
(Nakkiran 2019, arXiv 1912.07242).
`:epochs`: a residual network on signals of which a fifth have wrong labels, over its training
(Nakkiran et al. 2019, arXiv 1912.02292); `benchmarks/double_descent.py` draws it.
"""

from configs import mnist1d, vectors
from scaling.config import form_of
from scaling.config.sweep import Study, grid, product, with_seeds

EXAMPLES = 96
FEATURES = 96  # of the form whose examples vary
AROUND = (8, 24, 64, 96, 128, 192, 384, 768)  # one parameter a feature and target


def get_study(arg: str = "") -> Study:
    """Eight widths around the number of examples (or "data": the other way round), with two amounts
    of noise, three seeds.
    """
    form, debug = form_of(arg, ("", "data", "epochs"))
    if form == "epochs":
        return _epochs(debug)
    of_data = form == "data"
    base = vectors.get_config("debug" if debug else "")
    base.model.activation = "relu"
    if not debug:
        base.data.features = 256
        base.data.targets = 4
        base.data.unique_examples = base.train.batch_size = EXAMPLES
        # Near the threshold the smallest eigenvalues of the Hessian go to zero: the longer the
        # training, the higher the peak.
        base.train.steps = 2000
        base.optim.b1 = 0.99
    around, noises = (4, 8) if debug else AROUND, (0.0, 0.5)
    sizes = [
        {"model.width": FEATURES, "data.unique_examples": many, "train.batch_size": many}
        if of_data
        else {"model.width": many}
        for many in around
    ]
    runs = [
        run | {"optim.peak_lr": vectors.learning_rate(run["model.width"])}
        for run in product(sizes, grid({"data.noise": noises}))
    ]
    # Each seed has a task, examples and features of its own.
    seeded = [
        run | {"model.feature_seed": run["seed"], "data.task_seed": run["seed"]}
        for run in with_seeds(runs, 1 if debug else 3)
    ]
    return Study(
        name="double_descent_data" if of_data else "double_descent",
        question="Does the test loss peak where the parameters are as many as the numbers to fit?",
        base=base,
        runs=seeded,
        x="unique" if of_data else "params",
        group="data.noise",
        holdout=False,
    )


def _epochs(debug: bool) -> Study:
    """At a constant rate and without regularization; with right labels beside it."""
    base = mnist1d.get_config("debug" if debug else "")
    base.optim.schedule, base.optim.final_lr_fraction = "constant", 0.1  # which it does not read
    base.optim.peak_lr, base.optim.weight_decay = 1e-3, 0.0
    base.train.epochs = None
    base.train.steps = 4 if debug else 8000
    base.evals.every = 2 if debug else 200
    if not debug:
        base.model.width = 32
        base.data.unique_examples = 1000
        base.train.log_every = 200
    return Study(
        name="double_descent_epochs",
        question="Does the test error fall, rise and fall again over the training?",
        base=base,
        runs=with_seeds(grid({"data.label_noise": (0.0, 0.2)}), 1 if debug else 3),
        x="data.label_noise",
        holdout=False,
    )
