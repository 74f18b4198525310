"""Do the exponents that are fitted to trained models hold those of theory?

A read-out of random features on the power-law task (Maloney, Roberts and Sully 2022, arXiv
2210.16859) for three spectra: where the larger of width and examples is four times the smaller, the
test loss falls as the smaller to the power of the spectrum's alpha, whichever of them it is.
`:examples` varies the examples, without it the width varies. `benchmarks/power_law.py` sets both
against the theory.
"""

from configs import vectors
from scaling.config.sweep import Override, Study

SPECTRA = (0.75, 1.0, 1.25)
SIZES = (24, 32, 48, 64, 96, 128)
RATIO = 4  # of the larger of width and examples to the smaller


def get_study(arg: str = "") -> Study:
    """Six sizes of three spectra, five seeds each; "debug" and "examples_debug" make a few."""
    what, _, form = arg.rpartition("_") if arg.endswith("debug") else (arg, "", "")
    debug = form == "debug"
    if what not in ("", "examples"):
        raise ValueError(f":{arg} is no form of this study; give :examples, or leave it out")
    sizes, spectra, seeds = ((4, 8), SPECTRA[:2], 1) if debug else (SIZES, SPECTRA, 5)
    return Study(
        name=f"power_law{'_' * bool(what)}{what}",
        question="Do fitted exponents hold those of a theory?",
        base=vectors.get_config("debug" if debug else ""),
        runs=[
            _run(size, RATIO * size, alpha, seed)
            if what != "examples"
            else _run(RATIO * size, size, alpha, seed)
            for alpha in spectra
            for size in sizes
            for seed in range(seeds)
        ],
        x="unique_examples" if what else "params",
        group="data.alpha",
        holdout=False,
    )


def _run(width: int, examples: int, alpha: float, seed: int) -> Override:
    """All examples in every step; the seed draws the task and the features."""
    return {
        "seed": seed,
        "model.width": width,
        "model.feature_seed": seed,
        "data.alpha": alpha,
        "data.task_seed": seed,
        "data.unique_examples": examples,
        "train.batch_size": examples,
        "optim.peak_lr": vectors.learning_rate(width),
    }
