"""What do the configs of small images reach as they stand, on the digits and on MNIST-1D?

Every form of `configs/vision.py`, and with `:mnist1d` of `configs/mnist1d.py`, five seeds each:
what a change to a family, or to how it is trained, is held against.
"""

from typing import Any

from configs import mnist1d, vision
from scaling.config import flat, from_dict, is_debug
from scaling.config.sweep import Override, Study, with_seeds

_GROUPS = ("model", "data", "optim", "train")


def get_study(arg: str = "") -> Study:
    """Three configs of five seeds on the digits, or, with "mnist1d", on that; "debug" is the small
    ones of both.
    """
    forms: list[tuple[Any, str]] = [(mnist1d, form) for form in ("", "lstm", "mlp")]
    if debug := arg != "mnist1d" and is_debug(arg):
        forms = [(vision, "debug"), (mnist1d, "debug")]
    elif not arg:
        forms = [(vision, form) for form in ("", "vit", "mixer")]
    return Study(
        name="baselines_mnist1d" if arg == "mnist1d" else "baselines",
        question="What do the configs of small images reach as they stand?",
        base=vision.get_config("debug" if debug else ""),
        runs=with_seeds([_fields(*one) for one in forms], 1 if debug else 5),
        x="params",
        group="data.source" if debug else "model.family",
        holdout=False,
    )


def _fields(module: Any, form: str) -> Override:
    """The run of a config, as overrides; all are evaluated on everything that is held out."""
    fields = flat(from_dict(module.get_config(form)))
    own = {name: value for name, value in fields.items() if name.split(".")[0] in _GROUPS}
    return own | {"evals.batches": 16, "evals.batch_size": 64}
