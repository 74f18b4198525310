"""Which texts does a larger model write out exactly? Dates and amounts in German, and the names of
languages, countries and currencies; what is asked for is never met in training.
"""

from configs import pairs
from scaling.config import from_dict, is_debug
from scaling.config.sweep import Study, with_seeds

# Pairs a run: of dates and amounts each is met about once; the 1,500 names some seventy times.
SOURCES = {"dates:de": 51_200, "amounts:de": 102_400, "names:en-de": 102_400}
WIDTHS = (16, 32, 48, 64)


def get_study(arg: str = "") -> Study:
    """Three sources, four widths, the small ones with three seeds; "debug": one width."""
    debug = is_debug(arg)
    base = pairs.get_config(arg)
    if debug:
        sources, widths, seeds = dict.fromkeys(SOURCES, 32), (16,), 1
    else:
        sources, widths, seeds = SOURCES, WIDTHS, 3
    runs = []
    for source, units in sources.items():
        for width in widths:
            shape = pairs.RECIPE.shape(width, from_dict(base))
            length = {"train.units": float(units), "train.steps": None}
            own = {"train.batch_size": 8, "model.depth": 1} if debug else {}
            runs.append({"data.source": source} | shape | length | own)
    return Study(
        name="translation",
        question="Which texts does a larger model write out exactly?",
        base=base,
        runs=with_seeds(runs, seeds, lambda o: o["model.width"] <= WIDTHS[1]),
        x="params",
        group="data.source",
        holdout=False,
    )
