"""Three families on the same text: attention, recurrence, and a window of the last eight bytes.

The runs are those of `experiments/recurrence.py` and feed-forward models (Bengio et al. 2003) of
the same five sizes, over training FLOPs.
"""

from dataclasses import replace

from configs import tiny
from experiments import recurrence
from scaling.config import from_dict, is_debug, override
from scaling.config.sweep import Study, with_seeds

# With eight tokens and two blocks a feed-forward model of width w has 24 w^2 parameters.
WIDTHS = (29, 36, 48, 65, 81)


def get_study(arg: str = "") -> Study:
    """Three families, five sizes each, small ones twice; as many bytes a parameter."""
    debug, others = is_debug(arg), recurrence.get_study(arg)
    base = from_dict(tiny.get_config(arg))
    of_family = {"model.family": "feedforward"}
    recipe = replace(tiny.RECIPE, model={}, units_per_param=0.1 if debug else 15.0)
    like = override(base, of_family)
    runs = [of_family | recipe.rung(width, like) for width in ((16, 24) if debug else WIDTHS)]
    many = 1 if debug else 2
    return replace(
        others,
        name="families",
        question="Who learns most of a budget: attention, recurrence, or a window of bytes?",
        runs=(*others.runs, *with_seeds(runs, many, lambda o: o["model.width"] <= WIDTHS[1])),
        x="flops",
    )
