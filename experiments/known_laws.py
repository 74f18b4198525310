"""Do trained models follow the laws of tasks whose law is known?

    features       random features fitted whole, over their number (Maloney et al. 2022)
    seen_once      the same linear teacher, noisy, and data that are seen once (Lin et al. 2024)
    markov         a Markov chain and a transformer, over symbols that are seen once (Rissanen 1986)
    associations   a transformer that learns Zipf's questions by heart (Hutter 2021)
    parity         a perceptron and many parities of two bits, over examples (Michaud et al. 2023)

`:markov` is one of them, `:markov1` and `:markov2` the whole of it with other seeds,
`:markov_debug` a few steps of it. `benchmarks/known_laws.py` sets all that a workdir has beside the
truth.
"""

import ml_collections

from configs import sequences, vectors
from scaling.config import base_config
from scaling.config.sweep import Override, Study, grid
from scaling.errors import ConfigError, nearest

TASKS = ("features", "seen_once", "markov", "associations", "parity")
SEEDS = 3  # runs of a size, in each repetition
# Of the associations: which questions are drawn is nearly all that runs of a size differ by.
DRAWS = 9


def get_study(arg: str = "") -> Study:
    """A task, a number of the repetition, "_debug"; of nothing, and of "debug", the first task."""
    small = arg.endswith("debug")
    name = arg.removesuffix("debug").removesuffix("_")
    task = name.rstrip("0123456789") or TASKS[0]
    if task not in TASKS:
        raise ConfigError(
            f":{arg} is no form of this study{nearest(arg, ['debug', *TASKS])}; give one of "
            f"{', '.join(TASKS)}, with a number and _debug if you like"
        )
    repeat = int(name[len(task) :] or 0)
    return _STUDIES[task](small, f"known_laws_{name or task}", 1000 * repeat)


def _study(name: str, base: ml_collections.ConfigDict, runs: list[Override], x: str) -> Study:
    question = "Do trained models follow the law that is known of their data?"
    return Study(name=name, question=question, base=base, runs=runs, x=x, holdout=False)


def _seeds(small: bool, first: int, count: int = SEEDS) -> range:
    return range(first, first + (1 if small else count))


def _features(small: bool, name: str, first: int) -> Study:
    """Every size has tasks and features of its own: a law's intervals take its points to be
    independent. Of 4,096 variances 96 features are few enough: of 2,048, loss times width falls by
    3 % between 48 and 128 features, and by 1 % here.
    """
    sizes = (4, 8) if small else (16, 24, 32, 48, 64, 96)
    base = vectors.get_config("debug" if small else "")
    if not small:
        base.data.features = 4096
    runs = [
        {
            "seed": seed,
            "model.width": width,
            "model.feature_seed": 1000 * seed + width,
            "data.task_seed": 1000 * seed + width,
            "data.unique_examples": 4 * width,
            "train.batch_size": 4 * width,
            "optim.peak_lr": vectors.learning_rate(width),
        }
        for width in sizes
        for seed in _seeds(small, first)
    ]
    return _study(name, base, runs, "params")


def _seen_once(small: bool, name: str, first: int) -> Study:
    """Batches of 16 and one learning rate, so that the examples are the time of gradient descent;
    it goes down to 0, which averages the noise of the targets. Of fewer than 64 updates the law is
    not true yet (`benchmarks/known_laws.py` reckons what they end at).
    """
    base = base_config(family="random_features", data="vectors", objective="regression")
    # So wide that what the features cannot hold is little of what is left to learn at the end.
    base.model.width = 8 if small else 1024
    base.data.features = 32 if small else 1024
    base.data.targets = 64
    base.data.noise = 0.5
    base.data.examples = None
    base.data.validation_examples = 64 if small else 8192
    base.optim.name = "sgd"
    base.optim.b1 = 0.0
    base.optim.peak_lr = RATE / base.model.width
    base.optim.schedule = "linear"
    base.optim.final_lr_fraction = 0.0
    base.optim.warmup_fraction = 0.0
    base.optim.weight_decay = 0.0
    base.optim.clip_norm = None
    base.train.batch_size = 16
    base.train.tokens_per_param = None
    base.train.units = 64.0
    base.train.log_every = 64
    base.train.steps_per_call = 1 if small else 16
    base.evals.batches = 1 if small else 32
    base.evals.batch_size = 64 if small else 256
    amounts = (64, 128) if small else (1024, 2048, 4096, 8192, 16384, 32768)
    runs = [
        {
            "seed": seed,
            "model.feature_seed": 100_000 * seed + amount,
            "data.task_seed": 100_000 * seed + amount,
            "train.units": float(amount),
        }
        for amount in amounts
        for seed in _seeds(small, first)
    ]
    return _study(name, base, runs, "examples")


RATE = 0.5  # over the sum of the variances of the random features, which are 1 each


def _markov(small: bool, name: str, first: int) -> Study:
    base = sequences.get_config("debug" if small else "")
    if not small:
        base.data.length = 64
        base.data.validation_examples = 16_384
        base.evals.batches = 64
    axes = {
        "train.units": [1024.0, 2048.0] if small else [2.0**k for k in range(14, 20)],
        "seed": _seeds(small, first),
    }
    return _study(name, base, grid(axes), "symbols")


def _associations(small: bool, name: str, first: int) -> Study:
    """Every size has a task of its own, and is trained for as many steps: until it has by heart
    what it has seen.
    """
    base = sequences.get_config("debug" if small else "")
    base.data.source = "associations"
    base.data.zipf = 2.0
    if not small:
        base.model.width = 64
        base.data.symbols = 4096
        base.data.length = 32
        base.data.validation_examples = 4096
    base.train.units = None
    base.train.steps = 4 if small else 400
    rows = (8, 16) if small else (8, 16, 32, 64, 128, 256, 512)
    runs = [
        {
            "seed": seed,
            "data.task_seed": 1000 * seed + count,
            "data.unique_symbols": (16 if small else 32) * count,
        }
        for count in rows
        for seed in _seeds(small, first, DRAWS)
    ]
    return _study(name, base, runs, "unique_symbols")


def _parity(small: bool, name: str, first: int) -> Study:
    """So many tasks and so many steps that neither ends the law: of 128 tasks those that are left
    out are a seventh of what is still to learn at the largest size, and half of the steps leave the
    largest sizes half learned.
    """
    base = base_config(family="mlp", data="vectors", objective="regression")
    base.model.width, base.model.depth = (16, 1) if small else (128, 2)
    base.data.source = "sparse_parity"
    base.data.tasks = 16 if small else 512
    base.data.bits = 2
    base.data.features = base.data.tasks + 12
    base.data.targets = 1
    base.data.noise = 0.0
    base.data.examples = 2**16
    base.data.validation_examples = 64 if small else 2**14
    base.optim.peak_lr = 3e-3
    base.optim.schedule = "linear"
    base.optim.final_lr_fraction = 0.0
    base.train.batch_size = 16 if small else 256
    base.train.tokens_per_param = None
    base.train.steps = 4 if small else 4000
    base.train.log_every = 2 if small else 200
    base.train.steps_per_call = 1 if small else 10
    base.evals.batches = 1 if small else 64
    base.evals.batch_size = 64 if small else 256
    base.evals.every = None
    runs = [
        {"seed": seed, "data.task_seed": 100_000 * seed + count, "data.unique_examples": count}
        for count in ((32, 64) if small else [2**k for k in range(10, 16)])
        for seed in _seeds(small, first)
    ]
    return _study(name, base, runs, "unique_examples")


_STUDIES = {
    "features": _features,
    "seen_once": _seen_once,
    "markov": _markov,
    "associations": _associations,
    "parity": _parity,
}
