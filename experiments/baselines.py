"""What do configs reach as they stand: small images, on the digits and on MNIST-1D, and five tasks?

Every form of `configs/vision.py` without a kind of block, one of them by its name, or with
`:mnist1d` all of `configs/mnist1d.py`, five seeds each: what a change to a family, or to how it is
trained, is held against. `:tasks` is a config of each of five tasks, three seeds each: tags and
answers in code, spoken digits, which caption a scene has, features without labels;
`benchmarks/tasks.py` has what they reach.
"""

import dataclasses
from typing import Any

from configs import bert, mnist1d, scenes, self_supervised, speech, vision
from scaling.config import flat, from_dict, is_debug
from scaling.config.sweep import Override, Study, with_seeds

_GROUPS = ("model", "data", "objective", "optim", "train", "augment")
SEEDS = 3  # of a task
TAGGED, MATCHED, PRETRAINED = 200, 600, 1000  # steps; fewer than the configs', and enough


def get_study(arg: str = "") -> Study:
    """Three configs of five seeds on the digits, or one by its name (":vit"), or, with "mnist1d",
    on that; "debug" is the small ones of both. "tasks" is five tasks, "tasks_debug" small ones.
    """
    if arg.startswith("tasks"):
        return _tasks(arg.removeprefix("tasks").removeprefix("_"))
    forms: list[tuple[Any, str]] = [(vision, form) for form in ("", "vit", "mixer")]
    debug = arg == "debug"
    if debug:
        forms = [(vision, "debug"), (mnist1d, "debug")]
    elif arg == "mnist1d":
        forms = [(mnist1d, form) for form in ("", "lstm", "mlp")]
    elif arg in vision.FORMS and arg:
        forms = [(vision, arg)]
    else:
        is_debug(arg)
    # All are evaluated on everything that is held out.
    whole = {"evals.batches": 16, "evals.batch_size": 64}
    return Study(
        name="baselines" if arg in ("", "debug") else f"baselines_{arg}",
        question="What do the configs of small images reach as they stand?",
        base=vision.get_config("debug" if debug else ""),
        runs=with_seeds([_fields(*one) | whole for one in forms], 1 if debug else 5),
        x="params",
        group="data.source" if debug else "model.family" if len(forms) > 1 else None,
        holdout=False,
    )


def _tasks(arg: str) -> Study:
    """Five tasks, and the encoder without labels as it began."""
    debug = is_debug(arg)

    def form(name: str) -> str:
        return "_".join(part for part in (name, arg) if part)

    runs = list[Override]()
    for seed in range(1 if debug else SEEDS):
        own = {"seed": seed}
        # Answers begin with an encoder of their depth that has found hidden tokens, with the same
        # seed, outside of the files that are held out of the questions.
        answers = _of(bert, form("spans"))
        hidden = _of(bert, arg) | {"data.validation_fraction": 0.1}
        hidden |= {"model.depth": answers["model.depth"]}
        hidden |= {} if debug else {"train.steps": PRETRAINED}
        begun = {"begins.run": hidden | own, "begins.new": "head"}
        features = _of(self_supervised, arg)
        for one in (
            _of(bert, form("tokens")) | ({} if debug else {"train.steps": TAGGED}),
            answers | begun,
            _of(scenes, arg) | ({} if debug else {"train.steps": MATCHED}),
            features,
            # No step is taken at a rate of 0.
            features | {"train.epochs": None, "train.steps": 1, "optim.peak_lr": 0.0},
            _of(speech, arg),
        ):
            runs.append(one | own)
    return Study(
        name="baselines_tasks",
        question="What do the configs of five tasks reach as they stand?",
        base=bert.get_config(form("tokens")),
        runs=runs,
        x="params",
        group=("data.kind", "train.steps"),
        holdout=False,
    )


def _fields(module: Any, form: str) -> Override:
    """The run of a config, as overrides, but for how it is evaluated."""
    fields = flat(from_dict(module.get_config(form)))
    return {name: value for name, value in fields.items() if name.split(".")[0] in _GROUPS}


def _of(module: Any, form: str) -> Override:
    """The run of a config, as overrides, and how it is evaluated."""
    evals = from_dict(module.get_config(form)).evals
    sets = {f"evals.sets.{name}": dataclasses.asdict(one) for name, one in evals.sets.items()}
    amount = {"evals.batches": evals.batches, "evals.batch_size": evals.batch_size}
    return _fields(module, form) | sets | amount
