"""What do the configs of small images reach as they stand, on the digits and on MNIST-1D?

Every form of `configs/vision.py` without a kind of block, one of them by its name, or with
`:mnist1d` all of `configs/mnist1d.py`, five seeds each: what a change to a family, or to how it is
trained, is held against.
"""

from typing import Any

from configs import mnist1d, vision
from scaling.config import flat, from_dict, is_debug
from scaling.config.sweep import Override, Study, with_seeds

_GROUPS = ("model", "data", "optim", "train", "augment")


def get_study(arg: str = "") -> Study:
    """Three configs of five seeds on the digits, or one by its name (":vit"), or, with "mnist1d",
    on that; "debug" is the small ones of both.
    """
    forms: list[tuple[Any, str]] = [(vision, form) for form in ("", "vit", "mixer")]
    debug = arg == "debug"
    if debug:
        forms = [(vision, "debug"), (mnist1d, "debug")]
    elif arg == "mnist1d":
        forms = [(mnist1d, form) for form in ("", "lstm", "mlp")]
    elif arg in vision.FORMS and arg:
        forms = [(vision, arg)]
    else:
        is_debug(arg)
    return Study(
        name="baselines" if arg in ("", "debug") else f"baselines_{arg}",
        question="What do the configs of small images reach as they stand?",
        base=vision.get_config("debug" if debug else ""),
        runs=with_seeds([_fields(*one) for one in forms], 1 if debug else 5),
        x="params",
        group="data.source" if debug else "model.family" if len(forms) > 1 else None,
        holdout=False,
    )


def _fields(module: Any, form: str) -> Override:
    """The run of a config, as overrides; all are evaluated on everything that is held out."""
    fields = flat(from_dict(module.get_config(form)))
    own = {name: value for name, value in fields.items() if name.split(".")[0] in _GROUPS}
    return own | {"evals.batches": 16, "evals.batch_size": 64}
