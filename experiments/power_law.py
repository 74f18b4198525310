"""Do the exponents that are fitted to trained models hold those of theory?

A read-out of random features on the power-law task (Maloney, Roberts and Sully 2022, arXiv
2210.16859) for three spectra: where the larger of width and examples is four times the smaller, the
test loss falls as the smaller to the power of the spectrum's alpha, whichever of them it is.
`:examples` varies the examples, without it the width varies. `benchmarks/power_law.py` sets both
against the theory.
"""

from configs import vectors
from scaling.config import is_debug
from scaling.config.sweep import Override, Study

# The flattest needs more numbers an example: what is cut off is missed at the larger sizes, and the
# loss then falls faster than the law. In the steepest the eigenvalues span more, and gradient
# descent takes longer to the end.
SPECTRA: list[Override] = [
    {"data.alpha": 0.75, "data.features": 4096},
    {"data.alpha": 1.0, "data.features": 2048},
    {"data.alpha": 1.25, "data.features": 2048, "optim.b1": 0.99, "train.steps": 3000},
]
DEBUG: list[Override] = [{"data.alpha": 0.75}, {"data.alpha": 1.0}]
# At 24 the finite size alone adds 1 to 4 % to the theory's loss, which holds for large ones.
SIZES = (32, 48, 64, 96, 128)
RATIO = 4  # of the larger of width and examples to the smaller


def get_study(arg: str = "") -> Study:
    """Five sizes of three spectra, five seeds each; "debug" and "examples_debug" make a few."""
    of_examples = arg.startswith("examples")
    debug = is_debug(arg.removeprefix("examples").removeprefix("_"))
    sizes, spectra, seeds = ((4, 8), DEBUG, 1) if debug else (SIZES, SPECTRA, 5)
    return Study(
        name="power_law_examples" if of_examples else "power_law",
        question="Do fitted exponents hold those of a theory?",
        base=vectors.get_config("debug" if debug else ""),
        runs=[
            _run(*((RATIO * size, size) if of_examples else (size, RATIO * size)), seed)
            | _draw(100_000 * (2 * number + of_examples) + 1000 * seed + size)
            | spectrum
            for number, spectrum in enumerate(spectra)
            for size in sizes
            for seed in range(seeds)
        ],
        x="unique_examples" if of_examples else "params",
        group="data.alpha",
        law="power",  # the targets have no noise, and so the loss no floor
        holdout=False,
    )


def _draw(number: int) -> Override:
    """Every run has a task and features of its own: a law's intervals take its points to be
    independent, and so does who counts how many of them hold.
    """
    return {"model.feature_seed": number, "data.task_seed": number}


def _run(width: int, examples: int, seed: int) -> Override:
    """All examples in every step."""
    return {
        "seed": seed,
        "model.width": width,
        "data.unique_examples": examples,
        "train.batch_size": examples,
        "optim.peak_lr": vectors.learning_rate(width),
    }
