"""Which texts does a larger model write out exactly? Dates and amounts in German, and the names of
languages, countries and currencies; what is asked for is never met in training.

`:names`: names from English to German alone, by a model that first learned those of ten languages
from each to each, short ones, and so to copy what is alike and to spell what is not; positions tell
it where in the source to read on. What is asked for is held out of all ten.
"""

from configs import pairs
from scaling.config import form_of, from_dict
from scaling.config.sweep import Override, Study, with_seeds

# Pairs a run: of dates and amounts each is met about once; the 1,500 names some seventy times.
SOURCES = {"dates:de": 51_200, "amounts:de": 102_400, "names:en-de": 102_400}
WIDTHS = (16, 32, 48, 64)

LANGUAGES = ("en", "de", "nl", "sv", "da", "nb", "fr", "it", "es", "pt")
SHORT = 28  # bytes; most of the names of ten languages
WIDTH, BATCH = 48, 32
FIRST, RATE = 1600, 5e-3  # steps on ten languages, and their learning rate
THEN, LATER_RATE, DECAY = 200, 2e-3, 1.0  # steps on two, their learning rate and weight decay


def get_study(arg: str = "") -> Study:
    """The study; a form's name and "debug" are joined by "_"."""
    forms = {"": _sources, "names": _names}
    form, debug = form_of(arg, forms)
    return Study(
        name="-".join(filter(None, ("translation", form))),
        question="Which texts does a larger model write out exactly?",
        base=pairs.get_config("debug" if debug else ""),
        runs=forms[form](debug),
        x="params",
        group="data.source",
        holdout=False,
    )


def _sources(debug: bool) -> list[Override]:
    """Three sources, four widths, the small ones with three seeds."""
    base = from_dict(pairs.get_config("debug" if debug else ""))
    if debug:
        sources, widths, seeds = dict.fromkeys(SOURCES, 32), (16,), 1
    else:
        sources, widths, seeds = SOURCES, WIDTHS, 3
    runs = []
    for source, units in sources.items():
        for width in widths:
            shape = pairs.RECIPE.shape(width, base)
            length = {"train.units": float(units), "train.steps": None}
            own = {"train.batch_size": 8, "model.depth": 1} if debug else {}
            runs.append({"data.source": source} | shape | length | own)
    return with_seeds(runs, seeds, lambda o: o["model.width"] <= WIDTHS[1])


def _names(debug: bool) -> list[Override]:
    """What is learned first and, begun with it, English to German, with three seeds."""
    languages = LANGUAGES[:3] if debug else LANGUAGES
    others = [name for name in languages if name != "de"]
    each = f"names:{'+'.join(languages)}-{'+'.join(['de', *others])}"
    shape = {} if debug else pairs.RECIPE.shape(WIDTH, from_dict(pairs.get_config()))
    shape |= {"model.reading_positions": True, "evals.sets.texts.source": "names:en-de"}
    first = shape | {"data.source": each, "data.longest": SHORT, "optim.peak_lr": RATE}
    then = shape | {"data.source": "names:en-de", "optim.peak_lr": LATER_RATE}
    then |= {"optim.weight_decay": DECAY}
    if not debug:
        alike = {"model.scan_layers": False, "train.batch_size": BATCH}
        first |= alike | {"train.steps": FIRST}
        then |= alike | {"train.steps": THEN}
    runs = list[Override]()
    for seed in range(1 if debug else 3):
        own = {"seed": seed}
        runs += [first | own, then | own | {"begins.run": first | own}]
    return runs
