"""Width of a generator and its discriminator, and the classifier that judges their samples."""

from configs import gan, vision
from scaling.config import flat, from_dict
from scaling.config.sweep import Study

_GROUPS = ("model", "data", "objective", "optim", "train")


def get_study(arg: str = "") -> Study:
    """Three widths, the same data; after the sweep, `launch.py samples` measures distances."""
    widths = (4, 8) if arg == "debug" else (4, 8, 16)
    fields = flat(from_dict(vision.get_config(arg)))
    judge = {name: value for name, value in fields.items() if name.split(".")[0] in _GROUPS}
    return Study(
        name="gan",
        question="How near do the samples come to the data as both networks become wider?",
        base=gan.get_config(arg),
        runs=[judge, *({"model.width": width} for width in widths)],
        x="params",
        group="model.family",
    )
