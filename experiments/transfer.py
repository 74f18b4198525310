"""Does the best learning rate stay where it is when the model grows? The measured part of what
docs/parametrizations.md says.
"""

import ml_collections

from configs import tiny
from scaling.config import from_dict, is_debug
from scaling.config.sweep import Study, chain
from scaling.studies import transfer

# What the sizes of an axis are trained under, and how fast standard's best rate falls with them.
AXES = {"width": (("standard", 1.0), ("mup", 0.0)), "depth": (("mup", 0.0), ("completep", 0.0))}
SIZES = {"width": (32, 64, 128), "depth": (2, 4, 8, 16)}
STEPS = {"width": 500, "depth": 300}  # sixteen blocks cost as much as a width of 128
OCTAVES = {
    "width": (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5),
    "depth": (-1.5, -0.75, 0.0, 0.75, 1.5),
}


def _base(axis: transfer.Axis, debug: bool) -> ml_collections.ConfigDict:
    """Width 32 and two blocks at about their best rate; steps of 512 bytes."""
    make = tiny.bare if axis == "depth" else tiny.get_config
    base = make("debug" if debug else "")
    base.train.tokens_per_param = None
    base.train.steps = 4 if debug else STEPS[axis]
    base.optim.peak_lr = 2**-6.25
    if debug:
        base.model.width = 16
        base.model.heads = 1
    return base


def get_study(arg: str = "") -> Study:
    """arg: "width" (or nothing), "depth"; "debug": two widths for a few steps."""
    axis: transfer.Axis = "depth" if arg == "depth" else "width"
    debug = arg not in AXES and is_debug(arg)
    base = _base(axis, debug)
    given = from_dict(base)
    sizes = (16, 24) if debug else SIZES[axis]
    octaves, seeds = ((-1.0, 0.0, 1.0), (0,)) if debug else (OCTAVES[axis], (0, 1))
    swept = [
        # The smallest, which costs least, says how far seeds differ.
        transfer.runs(
            given, axis, [size], name, octaves, seeds if size == sizes[0] else seeds[:1], falls
        )
        for name, falls in AXES[axis]
        for size in sizes
    ]
    return Study(
        name="transfer-depth" if axis == "depth" else "transfer",
        question=f"Does the best learning rate stay where it is when the {axis} grows?",
        base=base,
        runs=chain(*swept),
        x="optim.peak_lr",
        group=("optim.parametrization", f"model.{axis}"),
        holdout=False,
    )
