"""Which peak learning rate does each width want? The recipes of `configs/tiny.py` are its answer:
`SWEPT` of all widths trained alike, `RECIPE` (`:mup`) of widths parametrized by muP, and `LSTM`
(`:lstm`) of recurrent networks by the same.
"""

from configs import tiny
from scaling.config import form_of, from_dict, override
from scaling.config.sweep import Study, with_seeds

# Recipe and widths of each form.
FORMS = {
    "": (tiny.SWEPT, (20, 24, 32, 40, 56)),
    "mup": (tiny.RECIPE, (28, 40, 56, 80)),
    "lstm": (tiny.LSTM, (34, 58, 98)),
}


def get_study(arg: str = "") -> Study:
    """Half to two times the recipe's learning rate at each width; two seeds but for the largest."""
    form, debug = form_of(arg, FORMS)
    recipe, full = FORMS[form]
    base = from_dict(tiny.get_config("debug" if debug else ""))
    if form == "lstm":
        base = override(base, {"model.family": form})
    widths = (8, 16) if debug else full
    length = {"train.tokens_per_param": base.train.tokens_per_param}
    runs = []
    for factor in (0.5, 1.0, 2.0) if debug else (0.5, 0.71, 1.0, 1.41, 2.0):
        for width in widths:
            rung = recipe.rung(width, base) | length
            runs.append(rung | {"optim.peak_lr": rung["optim.peak_lr"] * factor})
    return Study(
        name="_".join(filter(None, ("learning_rate", form))),
        question="Which peak learning rate does each width want?",
        base=base,
        runs=with_seeds(runs, 2, where=lambda run: run["model.width"] < max(widths)),
        x="optim.peak_lr",
        group="model.width",
        holdout=False,
    )
