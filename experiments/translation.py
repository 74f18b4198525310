"""Which texts does a larger model write out exactly? Dates and amounts in German, and the names of
languages, countries and currencies; what is asked for is never met in training.

`:names`: names from English to German alone, by a model that first learned to write German for the
names of ten languages, short ones. It points to what it copies, and half of what it copies is drawn
letters, so that it is not known by heart. What is asked for is held out of all ten.

`:choosing`: the same with two more seeds and a quarter of the names held out, to choose by those
that `:names` trains on (`python -m benchmarks.names --held_out=0.25`).
"""

from collections.abc import Sequence

from configs import pairs
from scaling.config import form_of, from_dict
from scaling.config.sweep import Override, Study, with_seeds

# Pairs a run: of dates and amounts each is met about once; the 1,500 names some seventy times.
SOURCES = {"dates:de": 51_200, "amounts:de": 102_400, "names:en-de": 102_400}
WIDTHS = (16, 32, 48, 64)

LANGUAGES = ("en", "de", "nl", "sv", "da", "nb", "fr", "it", "es", "pt")
SHORT = 28  # bytes; most of the names of ten languages
WIDTH, BATCH = 64, 32
NAMES: Override = {
    # A pointer, and wavelengths of rotary positions that texts so short can tell apart.
    **{"model.pointer": True, "model.reading_positions": True, "model.rope_theta": 30.0},
    **{"model.dropout": 0.05, "objective.label_smoothing": 0.1},
    **{"evals.sets.texts.source": "names:en-de", "evals.sets.texts.beams": 4},
}
FIRST: Override = {
    **{"data.longest": SHORT, "data.hallucinated": 0.6, "optim.peak_lr": 5e-3},
    **{"optim.weight_decay": 0.3, "optim.ema_decay": 0.99},
}
THEN: Override = {
    **{"data.source": "names:en-de", "data.hallucinated": 0.5, "optim.peak_lr": 2e-3},
    **{"optim.weight_decay": 1.0, "optim.ema_decay": 0.98},
}
STEPS = (1600, 200)


def get_study(arg: str = "") -> Study:
    """The study; a form's name and "debug" are joined by "_"."""
    forms = {"": _sources, "names": _names, "choosing": _choosing}
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
    sources = dict.fromkeys(SOURCES, 32) if debug else SOURCES
    widths: tuple[int, ...] = (16,) if debug else WIDTHS
    runs = []
    for source, units in sources.items():
        for width in widths:
            shape = pairs.RECIPE.shape(width, base)
            length = {"train.units": float(units), "train.steps": None}
            own = {"train.batch_size": 8, "model.depth": 1} if debug else {}
            runs.append({"data.source": source} | shape | length | own)
    return with_seeds(runs, 1 if debug else 3, lambda o: o["model.width"] <= WIDTHS[1])


def _choosing(debug: bool) -> list[Override]:
    """As `_names`, of which no seed and no name that is asked for is met."""
    return _names(debug, (11,) if debug else (11, 12), {"data.validation_fraction": 0.25})


def _names(
    debug: bool, seeds: Sequence[int] | None = None, held_out: Override | None = None
) -> list[Override]:
    """What is learned first and, begun with it, English to German, with three seeds."""
    languages = LANGUAGES[:3] if debug else LANGUAGES
    shape = NAMES if debug else NAMES | pairs.RECIPE.shape(WIDTH, from_dict(pairs.get_config()))
    shape |= held_out or {}
    first = shape | FIRST | {"data.source": f"names:{'+'.join(languages)}-de"}
    then = shape | THEN
    if not debug:
        alike = {"model.scan_layers": False, "train.batch_size": BATCH}
        first |= alike | {"train.steps": STEPS[0]}
        then |= alike | {"train.steps": STEPS[1]}
    runs = list[Override]()
    for seed in seeds or range(1 if debug else 3):
        own = {"seed": seed}
        runs += [first | own, then | own | {"begins.run": first | own}]
    return runs
