"""Attention against recurrence: how the loss of each falls with its size, on the same text."""

from dataclasses import replace

from configs import tiny
from scaling.config import from_dict, override
from scaling.config.sweep import Study, chain, with_seeds

# A recurrent layer of width w has 8 w^2 parameters, a block of attention and MLP 12: widths are
# chosen so that both families have the same sizes.
WIDTHS = {"transformer": (28, 36, 48, 64, 80), "lstm": (34, 44, 58, 78, 98)}
RECIPES = {
    "transformer": tiny.RECIPE,
    "lstm": tiny.LSTM,
}


def get_study(arg: str = "") -> Study:
    """Two families, five sizes each, the small ones with more seeds; as many bytes a parameter."""
    debug = arg == "debug"
    config = tiny.get_config(arg)
    base = from_dict(config)
    units = 0.1 if debug else tiny.RECIPE.units_per_param
    runs = []
    for family, widths in WIDTHS.items():
        of_family = {"model.family": family}
        like = override(base, of_family)
        for width in (16, 24) if debug else widths:
            rung = replace(RECIPES[family], units_per_param=units).rung(width, like)
            runs.append(of_family | rung)
    small = WIDTHS["lstm"][1]
    return Study(
        name="recurrence",
        question="Does recurrence scale as attention does, on the same bytes of code?",
        base=base,
        runs=chain(with_seeds(runs, 1 if debug else 2, lambda o: o["model.width"] <= small)),
        x="params",
        group="model.family",
        delta=1e-2,
    )
