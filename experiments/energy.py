"""What does a loss cost in energy, and is the size that is best for its FLOPs best for its joules?

Byte models of six widths at three budgets of training FLOPs, as for isoFLOP curves, each timed by
itself: sweep with `--pack=off`. `benchmarks/energy.py` sets what a budget of joules buys beside
what one of FLOPs does.
"""

from configs import tiny
from scaling.config import from_dict, is_debug
from scaling.config.sweep import Study
from scaling.studies.ladder import isoflop

# Of the least budget the widest model still reads 170 thousand bytes.
WIDTHS = (20, 28, 40, 56, 80, 112)
BUDGETS = (4e11, 1.2e12, 3.6e12)


def get_study(arg: str = "") -> Study:
    """The study; arg "debug" makes four runs of a few steps."""
    debug = is_debug(arg)
    base = tiny.bare(arg)
    widths, budgets = ((8, 16), (2e7, 4e7)) if debug else (WIDTHS, BUDGETS)
    return Study(
        name="energy",
        question="What does a loss cost in energy?",
        base=base,
        runs=isoflop(tiny.RECIPE, widths, budgets, from_dict(base)),
        x="joules",
        group="model.width",
        law="chinchilla",
        delta=1e-2,
        holdout=False,
    )
