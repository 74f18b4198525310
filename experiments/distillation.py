"""When is a teacher worth its price: over what a student reads, and the teacher's loss?

A byte model, trained for four lengths on what is true alone, and on the predictions of a teacher
alone: of the quick start's largest model, or of one of the student's size that has read little.
"""

from configs import tiny
from scaling.config import is_debug
from scaling.config.sweep import Study, grid, product

# Width of the teacher, and tokens a parameter that it has read.
TEACHERS = ((80, 15.0), (28, 2.0))


def get_study(arg: str = "") -> Study:
    """The study; "debug" trains one student of one teacher for a few steps."""
    debug = is_debug(arg)
    base = tiny.get_config(arg)
    tiny.strip(base)
    lengths = grid({"train.tokens_per_param": (0.1,) if debug else (1.0, 3.0, 9.0, 27.0)})
    students = product([tiny.RECIPE.shape(8 if debug else 28)], lengths)
    teachers = [
        {
            "begins.run": tiny.RECIPE.shape(width) | {"train.tokens_per_param": length},
            "distill.weight": 1.0,
        }
        for width, length in (((16, 0.1),) if debug else TEACHERS)
    ]
    return Study(
        name="distillation",
        question="When is a teacher worth its price?",
        base=base,
        runs=[*students, *product(students, teachers)],
        x="amount",
        group="teacher_loss",
        holdout=False,
    )
