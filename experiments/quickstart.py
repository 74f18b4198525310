"""The quick start: how does the loss fall when width and data grow together?

Widths 28 to 80 at two blocks, 15 training bytes a parameter: seven times more parameters, 35 times
more compute, from the first to the last. The law is fitted without the largest model
and then asked for its loss. Many sizes with a seed or two each serve that better than few sizes
with many seeds: what limits the prediction is how closely the sizes follow one law, and only more
sizes tell. docs/studies.md says how they were chosen.
"""

import re

from configs import tiny
from scaling.config.sweep import Study, chain, with_seeds

# Width -> runs, each from other initial parameters: more where they are cheap and noise is larger.
# At these widths the heads have 14 to 18 channels. Between them the divisors of the width leave
# only heads of 8 to 12, 20 to 26 or 34 channels, whose models lie up to 2 % above the others' law.
SEEDS = {28: 3, 32: 3, 36: 3, 42: 3, 48: 2, 54: 2, 56: 2, 64: 1, 70: 1, 72: 1, 80: 1}


def get_study(arg: str = "") -> Study:
    """The study; arg "debug" trains three widths for a few steps; "repeat1", "repeat2", ...: the
    whole study once more, independent of the first: other seeds and another stream of data.
    """
    repeated = re.fullmatch(r"repeat([1-9]\d*)", arg)
    repeat = int(repeated[1]) if repeated else 0
    base = tiny.get_config("" if repeated else arg)
    base.data.seed = repeat
    seeds = {8: 2, 16: 2, 24: 1} if arg == "debug" else SEEDS
    first = repeat * max(SEEDS.values())
    length = {"train.tokens_per_param": base.train.tokens_per_param}
    return Study(
        name=f"quickstart-{arg}" if repeated else "quickstart",
        question="How does the loss of a byte model of Python code fall when it grows?",
        base=base,
        runs=chain(
            *(
                with_seeds([tiny.RECIPE.rung(width) | length], range(first, first + count))
                for width, count in seeds.items()
            )
        ),
        delta=1e-2,  # the noise between seeds is half a percent, and no run is an outlier
    )
