"""What is pretraining worth to a model that is then tuned on other text, whole or at low rank?

Models of two widths are trained on code, each for four lengths, and then on a little prose: whole,
or by LoRA of three ranks (Hu et al. 2021). Against them stands a model that has seen the prose
alone. Every run is evaluated on held-out prose, and on code, which shows what is forgotten.
"""

from typing import Any

from configs import tiny
from scaling.config import eval_set
from scaling.config.sweep import Override, Study

# Of the recipe's peak learning rate, which is that of a model from scratch: weights that are good
# already are moved less, factors that begin at zero more.
WHOLE, LORA = 0.5, 1.0


def get_study(arg: str = "") -> Study:
    """The study; arg "debug" trains two lengths of two small models, and one rank."""
    debug = arg == "debug"
    base = tiny.get_config(arg)
    with base.unlocked():
        del base.evals.sets["seen"], base.evals.sets["docs"]
        base.evals.sets.code = eval_set(part="code")
    base.train.tokens_per_param = None
    widths, ranks = ((8, 16), (1,)) if debug else ((32, 64), (1, 4, 16))
    lengths = (256.0, 512.0) if debug else (125e3, 250e3, 500e3, 1e6, 2e6)
    runs = list[Override]()
    for width in widths:
        rung = tiny.RECIPE.rung(width)
        rate = rung["optim.peak_lr"]
        model = {name: value for name, value in rung.items() if not name.startswith("train.")}
        prose = model | {
            "data.part": "docs",
            # It is short, and split by documents: enough is held out to tell the models apart.
            "data.validation_fraction": 0.2,
            "train.tokens": 512.0 if debug else 128e3,
        }
        runs.append(prose)
        for length in lengths:
            code = model | {"data.part": "code", "train.tokens": length}
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


def _tuned(prose: dict[str, Any], code: dict[str, Any], rate: float) -> Override:
    """A run on prose that begins with one on code."""
    return prose | {"begins.run": code, "optim.peak_lr": rate}
