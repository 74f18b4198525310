"""Is one large model better, or several small ones for the same compute?

Byte models of five widths, each trained as long as its recipe says, from four initial parameters;
with `:digits` perceptrons on handwritten digits, from eight. `:soup`: runs that share a beginning,
whose weights may be averaged, too, by how much of the training they share; `:snapshots`: what one
training was at the end of each of its cycles. `launch.py ensemble` asks them together.
"""

from configs import tiny, vision
from scaling.config import form_of
from scaling.config.sweep import Override, Study, grid, product, with_seeds

SHARED = (0.0, 0.25, 0.5, 0.75)  # of the training
CYCLES = (1, 2, 4)


def get_study(arg: str = "") -> Study:
    """The study; a form's name and "debug" are joined by "_"."""
    forms = {"": _text, "digits": _digits, "soup": _soup, "snapshots": _snapshots}
    form, debug = form_of(arg, forms)
    return forms[form]("_".join(filter(None, ("ensembles", form))), debug)


def _study(name: str, base: object, runs: list[Override], group: str) -> Study:
    return Study(
        name=name,
        question="Is one large model better, or several small ones?",
        base=base,
        runs=runs,
        x="params",
        group=group,
        holdout=False,
    )


def _text(name: str, debug: bool) -> Study:
    base = tiny.get_config("debug" if debug else "")
    tiny.strip(base)
    length = {"train.tokens_per_param": 0.1 if debug else tiny.RECIPE.units_per_param}
    widths = (8, 16) if debug else (16, 20, 28, 40, 56)
    runs = [tiny.RECIPE.shape(width) | length for width in widths]
    return _study(name, base, with_seeds(runs, 2 if debug else 4), "width")


def _digits(name: str, debug: bool) -> Study:
    base = vision.get_config("debug" if debug else "")
    base.evals.batches, base.evals.batch_size = 16, 64  # all that is held out
    widths = (8, 16) if debug else (8, 16, 32, 64, 128)
    runs = [
        {"model.family": "mlp", "model.depth": 2, "optim.peak_lr": 3e-3, "model.width": width}
        for width in widths
    ]
    return _study(name, base, with_seeds(runs, 2 if debug else 8), "width")


def _soup(name: str, debug: bool) -> Study:
    """Each of a group reads an order of its own from where they part. The shared part is trained at
    the peak rate; what follows is the last part of the same schedule, a decay to zero.
    """
    base = tiny.get_config("debug" if debug else "")
    tiny.strip(base)
    base.data.seed = None  # the run's own
    whole = 0.2 if debug else tiny.RECIPE.units_per_param
    shape = tiny.RECIPE.shape(8 if debug else 28)
    runs = list[Override]()
    for share in SHARED[:3:2] if debug else SHARED:
        rest = shape | {"train.tokens_per_param": (1 - share) * whole}
        if share:
            shared = shape | {
                "train.tokens_per_param": share * whole,
                "optim.schedule": "constant",
                "optim.final_lr_fraction": 0.1,  # which it does not read
            }
            rest |= {"begins.run": shared, "optim.warmup_fraction": 0.0}
        runs += product([rest], grid({"seed": range(1, 3 if debug else 5)}))
    return _study(name, base, runs, "train.steps")


def _snapshots(name: str, debug: bool) -> Study:
    """One training in one, two or four cycles, each from the peak rate to zero (Huang et al. 2017,
    arXiv 1704.00109), each on data of its own: a run that begins with the one before.
    """
    base = tiny.get_config("debug" if debug else "")
    tiny.strip(base)
    base.data.seed = None  # the run's own
    base.optim.schedule = "cosine"
    base.optim.warmup_fraction = 0.0
    whole = 0.4 if debug else tiny.RECIPE.units_per_param
    runs = list[Override]()
    for width in (8,) if debug else (20, 28, 40):
        for cycles in CYCLES[:2] if debug else CYCLES:
            shape = tiny.RECIPE.shape(width) | {"train.tokens_per_param": whole / cycles}
            for seed in range(1 if debug else 3):
                before: Override = {}
                for cycle in range(cycles):
                    before = shape | before | {"seed": 10 * seed + cycle}
                    runs.append(before)
                    before = {"begins.run": before}
    return _study(name, base, runs, "train.steps")
