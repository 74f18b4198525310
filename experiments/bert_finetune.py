"""What is pretraining on masked tokens worth, by labelled examples and by size?

Encoders of two widths learn what masked tokens of the standard library are, and then a task from a
few of its examples; against them stand models that learn the task alone. `:tokens`, by default,
tags Python's token classes, the narrower ones up to all passages that there are and for longer, to
where both ways meet (`benchmarks/labels.py`); `:packages` says which package a passage is from,
`:names` which language a name is in, `:spans` answers questions of parameters. The files that are
held out of the task are held out of pretraining too. `:adapters` trains a part of the wider model
on token classes: a low-rank update, biases and gains, or the new head alone.
"""

from typing import Any

from configs import bert
from scaling.config import form_of, from_dict
from scaling.config.run import OptimConfig
from scaling.config.sweep import Override, Study

WIDTHS = (32, 64)
LABELLED = {
    "tokens": (32, 128, 512, 2048, 8192),
    "packages": (32, 128, 512, 2048, 8192),
    "names": (32, 128, 512, 2048, 8192),
    "spans": (64, 256, 1024, 4096),
    "adapters": (32, 512, 8192),
}
# Of token classes at the least width: labelled passages (None: all, 79 thousand) -> steps, enough
# to see each, where 200 see 6,400; with so many seeds.
LONGER: dict[int | None, int] = {8192: 1000, None: 2500}
SEEDS = 4
STEPS = {"tokens": 200, "packages": 200, "names": 200, "spans": 600, "adapters": 200}
PRETRAINED = 1000  # steps
# Of the recipe's peak learning rate: weights that are good already are moved less.
TUNED = 0.5
# What is trained of the pretrained model, beside the new head, at the recipe's rate.
ADAPTERS: tuple[Override, ...] = (
    {
        **{"transform.name": "lora", "transform.rank": 4, "transform.alpha": 8.0},
        "transform.also": "head",
    },
    {"transform.name": "freeze", "transform.only": "bias,scale,head"},
    {"transform.name": "freeze", "transform.only": "head"},
)


def get_study(arg: str = "") -> Study:
    """A task, "_debug" behind it; "debug" is a small form of names of languages."""
    form, small = form_of(arg, ("", *LABELLED))
    task = form or ("names" if small else "tokens")
    of_parts = task == "adapters"
    form = "tokens" if of_parts else task
    base = bert.get_config(f"{form}_debug" if small else form)
    base.data.validation_fraction = 0.1
    widths, labelled = ((16,), (32, 64)) if small else (WIDTHS, LABELLED[task])
    if of_parts:
        widths = widths[-1:]
    new = "pooler,head" if base.data.kind == "labelled" else "head"
    runs = list[Override]()
    for width in widths:
        shape = bert.RECIPE.shape(width, from_dict(base))
        longer = LONGER if task == "tokens" and width == WIDTHS[0] and not small else {}
        lengths = dict.fromkeys(labelled, 4 if small else STEPS[task]) | longer
        for count, steps in lengths.items():
            for seed in range(SEEDS if count in longer else 1):
                own = shape | {"data.unique_examples": count, "train.steps": steps, "seed": seed}
                before = shape | _masked(small) | {"seed": seed}
                begun = own | {"begins.run": before, "begins.new": new}
                rate = {"optim.peak_lr": TUNED * shape["optim.peak_lr"]}
                runs += [own, begun | rate]
                runs += [begun | part for part in ADAPTERS if of_parts]
    return Study(
        name=f"bert_finetune_{task}",
        question="What is pretraining on masked tokens worth, by labelled examples and by size?",
        base=base,
        runs=runs,
        x="unique",
        group=("trained", "width"),
        holdout=False,
    )


def _masked(small: bool) -> dict[str, Any]:
    """The pretraining run, of what it has other than the task."""
    return {
        "data.kind": "text",
        "data.source": "stdlib",
        "data.seq_len": 128,
        "objective.name": "masked_tokens",
        "optim.schedule": "cosine",
        "optim.decay_fraction": OptimConfig.decay_fraction,  # whatever the task's course has
        "train.steps": 4 if small else PRETRAINED,
    }
