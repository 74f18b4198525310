"""Which peak learning rate does each width want? The recipes of `configs/` are its answer.

Of `configs/tiny.py`: `SWEPT` of all widths trained alike, `RECIPE` (`:mup`) of widths parametrized
by muP, and `LSTM` (`:lstm`) of recurrent networks by the same. `:vision`, `:bert`, `:pairs`,
`:scenes`, `:speech`: the recipe of the config of this name.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import ml_collections

from configs import bert, pairs, scenes, speech, tiny, vision
from scaling.config import form_of, from_dict, override
from scaling.config.sweep import Override, Study, with_seeds
from scaling.studies.ladder import Recipe

FEW = {"train.steps": 4, "train.batch_size": 8}  # of a debug form
HALVES, WHOLE = (0.5, 0.71, 1.0, 1.41, 2.0), (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Form:
    """A recipe, and what says which rate is its best."""

    recipe: Recipe
    widths: tuple[int, ...]
    config: Callable[[str], ml_collections.ConfigDict] = tiny.get_config
    own: Override = field(default_factory=dict)  # fields of the base
    length: Override | None = None  # None: as many tokens a parameter as the recipe says
    arg: str = ""  # of the config
    factors: tuple[float, ...] = WHOLE  # of the recipe's rate


FORMS = {
    "": Form(tiny.SWEPT, (20, 24, 32, 40, 56), factors=HALVES),
    "mup": Form(tiny.RECIPE, (28, 40, 56, 80), factors=HALVES),
    "lstm": Form(tiny.LSTM, (34, 58, 98), own={"model.family": "lstm"}, factors=HALVES),
    "vision": Form(
        vision.RECIPE,
        (4, 8, 16),
        vision.get_config,
        own={"train.epochs": None},
        length={"train.steps": 600},
    ),
    "bert": Form(bert.RECIPE, (16, 32, 64), bert.get_config, length={"train.steps": 600}),
    "pairs": Form(pairs.RECIPE, (16, 32, 64), pairs.get_config, length={"train.steps": 600}),
    "scenes": Form(
        scenes.RECIPE,
        (16, 32, 64),
        scenes.get_config,
        length={"train.steps": 1000},
        arg="questions",
    ),
    "speech": Form(
        speech.RECIPE,
        (16, 32, 64),
        speech.get_config,
        own={"model.spec_augment": 0.0},  # short runs: what is hidden is not made up for
        length={"train.steps": 600, "train.batch_size": 16},
    ),
}


def get_study(arg: str = "") -> Study:
    """Rates about the recipe's at each width; two seeds but for the largest."""
    name, debug = form_of(arg, FORMS)
    form = FORMS[name]
    given = "_".join(filter(None, (form.arg, "debug" if debug else "")))
    base = override(from_dict(form.config(given)), form.own)
    widths = (8, 16) if debug else form.widths
    runs = []
    for factor in (0.5, 1.0, 2.0) if debug else form.factors:
        for width in widths:
            if form.length is None:
                rung = form.recipe.rung(width, base)
                rung |= {"train.tokens_per_param": base.train.tokens_per_param}
            else:
                rung = form.recipe.shape(width, base) | form.length
                rung |= FEW if debug else {}
            runs.append(rung | {"optim.peak_lr": rung["optim.peak_lr"] * factor})
    return Study(
        name="_".join(filter(None, ("learning_rate", name))),
        question="Which peak learning rate does each width want?",
        base=base,
        runs=with_seeds(runs, 2, where=lambda run: run["model.width"] < max(widths)),
        x="optim.peak_lr",
        group="model.width",
        holdout=False,
    )
