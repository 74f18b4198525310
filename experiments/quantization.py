"""How many bits does a weight need, over the size of the model and the length of its training?

Byte models of two widths and two lengths, trained with weights of 2 (ternary), 3 and 4 bits by
quantization-aware training, and with all 32. `launch.py compress` then rounds the trained weights
of the latter to as many. `:law` trains four widths and five precisions, for the law of
`benchmarks/method_laws.py`.
"""

from configs import tiny
from scaling.config import is_debug
from scaling.config.sweep import Study, grid, product

BITS = (2, 3, 4)
WIDTHS = (28, 36)
# Of the law, which two widths say little of.
OF_LAW = {"bits": (2, 3, 4, 6), "widths": (20, 28, 40, 56)}


def get_study(arg: str = "") -> Study:
    """arg: "law" for more sizes; "debug" trains two widths at two precisions for a few steps."""
    law = arg == "law"
    debug = not law and is_debug(arg)
    base = tiny.get_config("debug" if debug else "")
    tiny.strip(base)
    bits, widths = (OF_LAW["bits"], OF_LAW["widths"]) if law else (BITS, WIDTHS)
    rungs = [tiny.RECIPE.shape(width) for width in ((8, 16) if debug else widths)]
    models = product(rungs, grid({"train.tokens_per_param": (0.1,) if debug else (5.0, 15.0)}))
    rounded = {"transform.name": ("qat",), "transform.bits": (4,) if debug else bits}
    return Study(
        name="quantization-law" if law else "quantization",
        question="How many bits does a weight need?",
        base=base,
        runs=[*models, *product(models, grid(rounded))],
        x="bits",
        group="width" if debug else ("width", "tokens"),
        holdout=False,
    )
