"""Does the best learning rate stay where it is when the model grows? The measured part of what
docs/parametrizations.md says.
"""

import ml_collections

from configs import tiny
from scaling.config import from_dict, is_debug
from scaling.config.sweep import Study, chain
from scaling.studies import transfer

# What an axis is trained under: parametrization, how fast its best rate falls, sizes.
AXES = {
    "width": (("standard", 1.0, (32, 64, 128)), ("mup", 0.0, (32, 64, 128, 256))),
    "depth": (("completep", 0.0, (2, 4, 8, 16)),),
}
STEPS = 500
OCTAVES = {
    "width": (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5),
    "depth": (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5),
}


def _base(axis: transfer.Axis, debug: bool) -> ml_collections.ConfigDict:
    """Width 32 and two blocks at about their best rate; steps of 512 bytes."""
    make = tiny.bare if axis == "depth" else tiny.get_config
    base = make("debug" if debug else "")
    base.train.tokens_per_param = None
    base.train.steps = 4 if debug else STEPS
    base.model.scan_layers = axis == "depth"  # sixteen blocks take minutes to compile
    base.optim.peak_lr = 2**-6.25
    if debug:
        base.model.width = 16
        base.model.heads = 1
    return base


def _seeds(size: int, axis: transfer.Axis, debug: bool) -> range:
    if debug:
        return range(1)
    few = {"width": {32: 3, 64: 3}, "depth": {2: 3, 4: 3, 8: 3, 16: 3}}[axis]
    return range(few.get(size, 1))


def get_study(arg: str = "") -> Study:
    """arg: "width" (or nothing), "depth"; "debug": two widths for a few steps."""
    axis: transfer.Axis = "depth" if arg == "depth" else "width"
    debug = arg not in AXES and is_debug(arg)
    base = _base(axis, debug)
    given = from_dict(base)
    octaves = (-1.0, 0.0, 1.0) if debug else OCTAVES[axis]
    swept = [
        # The smallest, which cost least, say how far seeds differ.
        transfer.runs(given, axis, [size], name, octaves, _seeds(size, axis, debug), falls)
        for name, falls, sizes in AXES[axis]
        for size in ((16, 24) if debug else sizes)
    ]
    return Study(
        name="transfer-depth" if axis == "depth" else "transfer",
        question=f"Does the best learning rate stay where it is when the {axis} grows?",
        base=base,
        runs=chain(*swept),
        x="optim.peak_lr",
        group="model.depth" if axis == "depth" else ("optim.parametrization", "model.width"),
        holdout=False,
    )
