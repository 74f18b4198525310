"""When is a teacher worth its price: over what a student reads, and the teacher's loss?

A byte model, trained for four lengths on what is true alone, and on the predictions of a teacher
alone: of the quick start's largest model, or of one of the student's size that has read little.
`:features`: by a teacher's predictions, with its last states or without, whole or a tenth of the
loss. `:on_policy`: by three divergences, on the data and on what the student writes itself.
`:law`: students of three widths and lengths, alone and by four teachers, for the law of
`benchmarks/method_laws.py`.
"""

from configs import tiny
from scaling.config import form_of
from scaling.config.sweep import Override, Study, grid, product

# Width of the teacher, and tokens a parameter that it has read.
TEACHERS = ((80, 15.0), (28, 2.0))
LENGTHS = (1.0, 3.0, 9.0, 27.0)  # tokens a parameter of the student
TEACHER = (48, 15.0)  # of the forms
# Of the law: width and tokens a parameter of each teacher; widths of students.
OF_LAW = ((80, 15.0), (48, 15.0), (48, 4.0), (28, 4.0))
STUDENTS = (16, 28, 48)


def get_study(arg: str = "") -> Study:
    """The study; a form's name and "debug" are joined by "_"; "debug" trains one student of one
    teacher for a few steps, and of a form each way of teaching.
    """
    forms = {"": _teachers, "features": _features, "on_policy": _on_policy, "law": _law}
    form, debug = form_of(arg, forms)
    base = tiny.get_config("debug" if debug else "")
    tiny.strip(base)
    runs, group = forms[form](debug)
    return Study(
        name="-".join(filter(None, ("distillation", form))),
        question="When is a teacher worth its price?",
        base=base,
        runs=runs,
        x="amount",
        group=group,
        holdout=False,
    )


def students(
    debug: bool, lengths: tuple[float, ...] = LENGTHS, widths: tuple[int, ...] = (28,)
) -> list[Override]:
    """Each width and length, alone."""
    each = grid({"train.tokens_per_param": (0.1,) if debug else lengths})
    return product([tiny.RECIPE.shape(width) for width in ((8,) if debug else widths)], each)


def taught(width: int, length: float) -> Override:
    """By a model of a width that has read so much."""
    teacher = tiny.RECIPE.shape(width) | {"train.tokens_per_param": length}
    return {"begins.run": teacher, "distill.weight": 1.0}


def _teachers(debug: bool) -> tuple[list[Override], str]:
    alone = students(debug)
    by = [taught(*one) for one in (((16, 0.1),) if debug else TEACHERS)]
    return [*alone, *product(alone, by)], "teacher_loss"


def _features(debug: bool) -> tuple[list[Override], tuple[str, ...]]:
    alone = students(debug, LENGTHS[:3])
    by = taught(*((16, 0.1) if debug else TEACHER))
    ways = [by, by | {"distill.features": 1.0}]
    ways += [by | {"distill.weight": 0.1, "distill.features": weight} for weight in (0.0, 1.0)]
    return [*alone, *product(alone, ways)], ("distill.weight", "distill.features")


def _on_policy(debug: bool) -> tuple[list[Override], tuple[str, ...]]:
    """With half of a row the data's; the loss on the data is what is compared, which the student's
    own text is not drawn from.
    """
    alone = students(debug, LENGTHS[1:3])
    by = taught(16, 0.1) if debug else taught(*TEACHER)
    kinds = ("forward", "reverse", "jsd")
    ways = [by | {"distill.divergence": kind} for kind in kinds]
    ways += [way | {"distill.on_policy": 0.5} for way in ways]
    group = ("distill.divergence", "distill.on_policy", "distill.weight")
    return [*alone, *product(alone, ways)], group


def _law(debug: bool) -> tuple[list[Override], tuple[str, ...]]:
    alone = students(debug, LENGTHS[1:], STUDENTS)
    by = [taught(*one) for one in (((16, 0.1),) if debug else OF_LAW)]
    return [*alone, *product(alone, by)], ("width", "teacher_loss")
