"""Which optimizer, or which schedule, is worth how much compute, and does that grow with the model?

Byte models of two widths, each optimizer at learning rates of its own about its best, as many
updates; the first of them, at half and twice as many too, says what a lower loss is worth
(`benchmarks/optimizers.py`). `:schedules` compares cosine, linear and WSD the same way.
"""

from typing import Any

from configs import tiny
from scaling.config import from_dict, is_debug
from scaling.config.sweep import Study, chain, grid, product
from scaling.studies import transfer

# Name -> what is set, and log2 of a peak learning rate that is about the best at width 32. All
# decay linearly to 0 but schedule-free, which has no schedule.
OPTIMIZERS: dict[str, tuple[dict[str, Any], float]] = {
    "adamw": ({}, -6.25),
    "muon": ({}, -5.25),
    "lion": ({"optim.b1": 0.9, "optim.b2": 0.99}, -8.0),
    "adafactor": ({}, -6.25),
    "adagrad": ({}, -5.0),
    "sgd": ({}, -2.5),
    "schedule_free": ({"optim.schedule": "constant", "optim.final_lr_fraction": 0.1}, -5.5),
}
SCHEDULES: dict[str, tuple[dict[str, Any], float]] = {
    "linear": ({"optim.final_lr_fraction": 0.0}, -6.25),
    "cosine": ({"optim.final_lr_fraction": 0.1}, -6.25),
    "wsd": ({"optim.final_lr_fraction": 0.0}, -6.5),
    "constant": ({"optim.final_lr_fraction": 0.1}, -7.0),
}
WIDTHS, STEPS, OCTAVES = (16, 48), 300, (-2.0, -1.0, 0.0, 1.0, 2.0)


def get_study(arg: str = "") -> Study:
    """Seven optimizers (or four schedules), two widths, five rates; "debug": few steps."""
    of_schedules = arg.startswith("schedules")
    debug = is_debug(arg.removeprefix("schedules").removeprefix("_"))
    base = tiny.bare("debug" if debug else "")
    base.train.steps = 4 if debug else STEPS
    base.optim.warmup_fraction = 0.1
    field = "optim.schedule" if of_schedules else "optim.name"
    widths, octaves = ((16, 24), (0.0,)) if debug else (WIDTHS, OCTAVES)
    given, runs = from_dict(base), []
    for number, (name, (fields, rate)) in enumerate(
        (SCHEDULES if of_schedules else OPTIMIZERS).items()
    ):
        lengths = [1, 2] if debug else [STEPS // 2, STEPS, 2 * STEPS]
        rates = [2.0 ** (rate + octave) for octave in octaves]
        swept: dict[str, list[Any]] = {
            field: [name],
            "train.steps": lengths if number == 0 else [base.train.steps],
        }
        for width in widths:
            shape = transfer.model(given, "width", width)
            # The best rate of hidden matrices falls with the width, but for Muon.
            falls = 1.0 if name in ("muon", "sgd") else 32 / width
            here = swept | {"optim.peak_lr": [r * falls for r in rates]}
            runs.append(product([shape | fields], grid(here)))
    return Study(
        name="schedules" if of_schedules else "optimizers",
        question=f"Which {'schedule' if of_schedules else 'optimizer'} is worth how much compute?",
        base=base,
        runs=chain(*runs),
        x="optim.peak_lr",
        group=(field, "model.width", "train.steps"),
        holdout=False,
    )
