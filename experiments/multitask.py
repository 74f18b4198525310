"""What does each of four tasks on text gain from each other, at which width?

Encoders of two widths learn one task, two, or all four at once, from two thousand examples of each;
as many rows of a task are seen whatever is learned beside it. Every run is evaluated on all four.
In the wider one all four are also weighed by their uncertainty.
"""

import itertools
from typing import Any

from configs import bert, multitask
from configs.multitask import TASKS
from scaling.config import from_dict, is_debug
from scaling.config.sweep import Override, Study

WIDTHS = (16, 32)
STEPS = 150  # of each task
EXAMPLES = 2048  # of each task


def get_study(arg: str = "") -> Study:
    """Each task, each pair, and all; "debug": two of them, at one width."""
    debug = is_debug(arg)
    base = multitask.get_config(arg)
    base.data.unique_examples = 32 if debug else EXAMPLES
    base.train.steps = None
    base.train.batch_size = 8 if debug else 16
    runs = list[Override]()
    for width in (16,) if debug else WIDTHS:
        shape = bert.RECIPE.shape(width, from_dict(base))
        shape["train.batch_size"] = base.train.batch_size
        for learned in sets(TASKS[:2] if debug else TASKS):
            runs.append(shape | of_tasks(learned, 2 if debug else STEPS))
        if width == WIDTHS[-1]:
            everything = shape | {"train.steps": STEPS * len(TASKS)}
            runs.append(everything | {"model.uncertainty": True})
    return Study(
        name="multitask",
        question="What does each of four tasks gain from each other, at which width?",
        base=base,
        runs=runs,
        x="params",
        group="data.weights" if debug else ("data.weights", "model.uncertainty"),
        holdout=False,
    )


def sets(tasks: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Each task alone, each pair, and all."""
    alone, pairs = ([*itertools.combinations(tasks, count)] for count in (1, 2))
    return [*alone, *pairs, *([tasks] if len(tasks) > 2 else [])]


def of_tasks(learned: tuple[str, ...], steps: int) -> dict[str, Any]:
    """The fields of a run on some of the tasks, all of them alike."""
    return {
        "data.weights": ",".join(str(int(task in learned)) for task in TASKS),
        "train.steps": steps * len(learned),
    }
