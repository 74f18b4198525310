"""What do the configs of small images reach as they stand, on the digits and on MNIST-1D?

Every form of `configs/vision.py` and `configs/mnist1d.py`, five seeds each: what a change to a
family, or to how it is trained, is held against.
"""

from typing import Any

from configs import mnist1d, vision
from scaling.config import flat, from_dict, is_debug
from scaling.config.sweep import Override, Study, with_seeds

_GROUPS = ("model", "data", "optim", "train")


def get_study(arg: str = "") -> Study:
    """Six configs of five seeds; "debug" is the two small ones."""
    debug = is_debug(arg)
    forms: list[tuple[Any, str]] = [(vision, "debug"), (mnist1d, "debug")]
    if not debug:
        forms = [(vision, form) for form in ("", "vit", "mixer")]
        forms += [(mnist1d, form) for form in ("", "lstm", "mlp")]
    return Study(
        name="baselines",
        question="What do the configs of small images reach as they stand?",
        base=vision.get_config("debug" if debug else ""),
        runs=with_seeds([_fields(*one) for one in forms], 1 if debug else 5),
        x="params",
        group=("data.source", "model.family") if not debug else "data.source",
        holdout=False,
    )


def _fields(module: Any, form: str) -> Override:
    """The run of a config, as overrides; all are evaluated on everything that is held out."""
    fields = flat(from_dict(module.get_config(form)))
    own = {name: value for name, value in fields.items() if name.split(".")[0] in _GROUPS}
    return own | {"evals.batches": 16, "evals.batch_size": 64}
