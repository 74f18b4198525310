"""What is pretraining worth to a model that is then tuned on other text, whole or at low rank?

Models of two widths are trained on code, each for four lengths, and then on a little prose: whole,
or by LoRA of three ranks (Hu et al. 2021). Against them stands a model that has seen the prose
alone. Every run is evaluated on held-out prose, and on code, which shows what is forgotten.
`:parts` trains a part of one model in each of five ways, at two rates each. `:law` goes the other
way, from prose to more and more code, at four widths: what the law of transfer is fitted to
(Hernandez et al. 2021, arXiv 2102.01293), by `benchmarks/transfer_law.py`.
"""

from typing import Any

from configs import tiny
from scaling.config import eval_set, form_of
from scaling.config.sweep import Override, Study

# Of the recipe's peak learning rate, which is that of a model from scratch: weights that are good
# already are moved less, factors that begin at zero more.
WHOLE, LORA = 0.5, 1.0
# What is trained of a model: all, low-rank updates, keys and values before the text, gains (it has
# no biases), the output matrix.
PARTS: tuple[Override, ...] = (
    {},
    {"transform.name": "lora", "transform.rank": 4, "transform.alpha": 8.0},
    {"transform.name": "prefix_tuning", "transform.length": 16},
    {"transform.name": "freeze", "transform.only": "scale"},
    {"transform.name": "freeze", "transform.only": "head"},
)
RATES = (0.5, 2.0)  # of the recipe's
# Of the law: widths; distinct bytes of code that models are tuned on, and that models from scratch
# see, which is to be more than what the best tuned one is worth; passes over them; bytes of prose.
WIDTHS = (16, 24, 32, 48)
TUNED = (16_384, 32_768, 65_536, 131_072, 262_144)
FROM_SCRATCH = (16_384, 65_536, 131_072, 262_144, 1_048_576)
PASSES = 2.0
PROSE = 524_288.0


def get_study(arg: str = "") -> Study:
    """The study; arg "debug" trains two lengths of two small models, and one rank; "parts",
    "parts_debug", "law", "law_debug".
    """
    form, debug = form_of(arg, ("", "parts", "law"))
    if form == "law":
        return _law(debug)
    base = _base(debug)
    if form:
        return _parts(base, debug)
    widths, ranks = ((8, 16), (1,)) if debug else ((32, 64), (1, 4, 16))
    lengths = (256.0, 512.0) if debug else (125e3, 250e3, 500e3, 1e6, 2e6)
    runs = list[Override]()
    for width in widths:
        model, rate, prose = _of(width, debug)
        runs.append(prose)
        for length in lengths:
            code = _code(model, length)
            runs.append(_tuned(prose, code, rate * WHOLE))
            runs += [
                _tuned(prose, code, rate * LORA)
                | {
                    "transform.name": "lora",
                    "transform.rank": rank,
                    "transform.alpha": 2.0 * rank,
                }
                for rank in ranks
            ]
    return Study(
        name="finetune",
        question="What is pretraining on code worth to a model that is then tuned on prose?",
        base=base,
        runs=runs,
        x="amount_before",
        group=("trained", "width"),
        log_x=False,  # from scratch is zero
    )


def _base(debug: bool) -> Any:
    base = tiny.get_config("debug" if debug else "")
    tiny.strip(base)
    with base.unlocked():
        base.evals.sets.code = eval_set(part="code")
    return base


def _of(width: int, debug: bool) -> tuple[Override, float, Override]:
    """A model, its recipe's rate, and a run of it on prose."""
    rung = tiny.RECIPE.rung(width)
    model = {name: value for name, value in rung.items() if not name.startswith("train.")}
    prose = model | {
        "data.part": "docs",
        # It is short, and split by documents: enough is held out to tell the models apart.
        "data.validation_fraction": 0.2,
        "train.tokens": 512.0 if debug else 128e3,
    }
    return model, rung["optim.peak_lr"], prose


def _code(model: Override, length: float) -> Override:
    return model | {"data.part": "code", "train.tokens": length}


def _parts(base: Any, debug: bool) -> Study:
    """Five ways to train a part of a model that has read code, and the model as it was."""
    base.model.tie_embeddings = False  # the output matrix can be trained alone
    model, rate, prose = _of(16 if debug else 32, debug)
    code = _code(model, 512.0 if debug else 500e3)
    runs = [code]
    for part in PARTS[:3] if debug else PARTS:
        for factor in RATES[:1] if debug else RATES:
            runs.append(_tuned(prose, code, rate * factor) | part)
    return Study(
        name="finetune_parts",
        question="What is learned, and what forgotten, when a part of a model is trained?",
        base=base,
        runs=runs,
        x="optim.peak_lr",
        group="trained",
        holdout=False,
    )


def _law(debug: bool) -> Study:
    """Models that have read prose, and others, learn some code in as many passes over it."""
    base = tiny.bare("debug" if debug else "")
    runs = list[Override]()
    for width in (8, 16) if debug else WIDTHS:
        shape = tiny.RECIPE.shape(width)
        prose = shape | {"data.part": "docs", "train.tokens": 256.0 if debug else PROSE}
        code = shape | {"data.part": "code", "train.epochs": 1.0 if debug else PASSES}
        rate = {"optim.peak_lr": WHOLE * shape["optim.peak_lr"], "begins.run": prose}
        tuned, scratch = ((256,), (256, 512)) if debug else (TUNED, FROM_SCRATCH)
        runs += [code | {"data.unique_tokens": amount} for amount in scratch]
        runs += [code | {"data.unique_tokens": amount} | rate for amount in tuned]
    return Study(
        name="finetune_law",
        question="How much code is prose worth, by the code that there is and by size?",
        base=base,
        runs=runs,
        x="unique_tokens",
        group=("trained", "width"),
        holdout=False,
    )


def _tuned(prose: dict[str, Any], code: dict[str, Any], rate: float) -> Override:
    """A run on prose that begins with one on code."""
    return prose | {"begins.run": code, "optim.peak_lr": rate}
