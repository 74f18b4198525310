"""What does a network forget that learns one task after the other, at which width, and what helps?

Perceptrons of three widths learn the digits, and then the digits with their pixels in another
order, and in a third; each task's run begins with the one before it. With nothing to hold on by
(naive), with a few images of every earlier task in each batch (replay), held to the weights that
the earlier tasks need (elastic weight consolidation), towards the predictions of the run before
(learning without forgetting), and with a low-rank adapter of the first network for each task.
`:split` is five tasks of two digits each. A run of each task alone says what learning them in a
row is worth.
"""

from typing import Any

from scaling.config import base_config, eval_set, form_of
from scaling.config.sweep import Override, Study, grid, product

WIDTHS = (16, 64, 256)
SEEDS = (1, 2, 3)  # the weights below were chosen with seed 0
# Of three to six tried at each width: what knew most of all tasks at the end
CONSOLIDATION = {16: 10.0, 64: 30.0, 256: 1000.0}
PERMUTED: tuple[Override, ...] = tuple({"data.permutation": order} for order in range(3))
SPLIT: tuple[Override, ...] = tuple({"data.labels": f"{i},{i + 1}"} for i in range(0, 10, 2))


def get_study(arg: str = "") -> Study:
    """The study; arg "split", "debug" (two tasks, one width, few steps), "split_debug"."""
    form, debug = form_of(arg, ("", "split"))
    tasks = (SPLIT if form else PERMUTED)[: 2 if debug else None]
    base = _base(tasks, debug)
    runs = list[Override]()
    for width in WIDTHS[:1] if debug else WIDTHS:
        shapes = product([{"model.width": width}], grid(seed=SEEDS[:1] if debug else SEEDS))
        for shape in shapes:
            first, *later = (task | shape for task in tasks)
            runs += [first, *later]  # each alone
            for method in methods(CONSOLIDATION[width]):
                runs.append(in_a_row(first, later, method))
            adapter = {"transform.name": "lora", "transform.rank": 4, "transform.modules": "*"}
            runs += [task | adapter | {"begins.run": first} for task in later]
    return Study(
        name="continual_split" if form else "continual",
        question="What does a network forget that learns one task after the other?",
        base=base,
        runs=runs,
        x="params",
        group="trained",
        holdout=False,
    )


def methods(consolidation: float) -> list[Override]:
    """Nothing, replay, elastic weight consolidation, learning without forgetting."""
    return [
        {},
        {"mixture.memory": 64},
        {"ewc.weight": consolidation},
        {"distill.weight": 0.2, "distill.begin": True, "distill.temperature": 2.0},
    ]


def in_a_row(first: Override, later: list[Override], method: Override) -> Override:
    """The run on the last task, which begins with that on the one before it, and so on."""
    at = first
    for number, task in enumerate(later, start=1):
        own = dict(method)
        if "mixture.memory" in method:  # half of each batch, all earlier tasks alike
            own |= {f"mixture.shares.task{i}": 0.5 / number for i in range(number)}
        at = task | own | {"begins.run": at}
    return at


def _base(tasks: tuple[Override, ...], debug: bool) -> Any:
    base = base_config(family="mlp", data="images", objective="classification")
    base.model.depth = 2
    base.optim.peak_lr = 3e-3
    base.optim.weight_decay = 0.0
    base.train.steps = 4 if debug else 300
    base.train.log_every = 2 if debug else 100
    base.evals.batches = 3  # all that are held out
    base.evals.batch_size = 120
    with base.unlocked():
        for number, task in enumerate(tasks):
            fields = {name.removeprefix("data."): value for name, value in task.items()}
            base.evals.sets[f"task{number}"] = eval_set(**fields)
    return base
