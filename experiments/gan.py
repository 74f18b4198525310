"""Width of a generator and its discriminator, and the classifier that judges their samples.

`:images` asks the same of images of a class that was asked for, against the number of images that
they were learned from; `:forms` of losses, of kernels of norm 1 and of the average of the weights.
After the sweep, `launch.py samples` measures distances.
"""

from typing import Any

from configs import gan, vision
from scaling.config import flat, form_of, from_dict
from scaling.config.sweep import Override, Study, grid

_GROUPS = ("model", "data", "objective", "optim", "train")
_HINGE: Override = {"model.conditional": True, "objective.form": "hinge"}
_SPECTRAL: Override = {"model.spectral": 2, "objective.r1": 0.0}
_UPDATES = 900


def get_study(arg: str = "") -> Study:
    """Three widths, the same data; "images", "forms", "_debug" behind them."""
    form, debug = form_of(arg, ("", "images", "forms"))
    base = gan.get_config("debug" if debug else "")
    fields = flat(from_dict(vision.get_config("debug" if debug else "")))
    judge = {name: value for name, value in fields.items() if name.split(".")[0] in _GROUPS}
    asked: dict[str, Any] = {"x": "params", "group": "model.family"}
    widths = (4, 8) if debug else (4, 8, 16)
    if form == "images":
        images = (32, 64) if debug else (90, 360, 1437)
        axes = {"model.width": widths[-2:], "data.unique_examples": images}
        runs = [_HINGE | one for one in grid(axes)]
        asked = {"x": "unique", "group": "width"}
    elif form == "forms":
        of_loss = (_HINGE, _HINGE | {"objective.form": "non_saturating"}, _HINGE | _SPECTRAL)
        runs = [{"model.width": 8} | one for one in of_loss]
        runs += [runs[0] | {"optim.ema_decay": None}, runs[0] | {"model.conditional": False}]
        asked = {"x": "params", "group": ("objective.form", "model.conditional")}
    else:
        runs = [{"model.width": width} for width in widths]
    length = {"train.epochs": None, "train.steps": 4 if debug else _UPDATES} if form else {}
    return Study(
        name=f"gan_{form}" if form else "gan",
        question="How near do the samples come to the data as both networks become wider?",
        base=base,
        runs=[judge, *(one | length for one in runs)],
        **asked,
    )
