"""How much can a model know?

    capacity     people who are made up, so that the bits that there are to be known are known: more
                 and more of them, told 30 to 1,000 times to models of several widths (Allen-Zhu and
                 Li 2024, arXiv 2404.05405)
    retrieval    the same, with a person who was looked up before the question in training: always
                 somebody else, or half of the time the right one
    graph        vectors of territories, languages and currencies, and of what holds between them,
                 of several widths: which triples that were held out do they foretell? (Bordes et
                 al. 2013; Yang et al. 2015)

`:capacity` is the default; `:debug`, or `:retrieval_debug`, a few steps of one.
"""

import itertools

from configs import knowledge
from scaling.config import form_of
from scaling.config.sweep import Override, Study, grid, product, with_seeds

# People over the square of the width, to which the number of parameters is nearly proportional:
# about 1.5, 3 and 6 bits a parameter.
PEOPLE = (0.75, 1.5, 3.0)
EXPOSURES = (30, 100, 300, 1000)
# Weight decay, by how well triples that were held out are foretold: of 0, 1 and 10.
DECAYS = {"transe": 0.0, "distmult": 1.0}
RATES = {8: 1e-2, 16: 1e-2, 24: 7e-3, 32: 5e-3}  # peaks


def get_study(arg: str = "") -> Study:
    """The study named, "_debug" behind it, or "debug" for the first."""
    form, debug = form_of(arg, ("", *_STUDIES))
    return _STUDIES[form or "capacity"](debug)


def _people(width: int, load: float) -> Override:
    """A width and so many people for it, at a learning rate that the width wants."""
    return {
        "model.width": width,
        "data.people": round(load * width**2),
        "optim.peak_lr": RATES[width],
    }


def _capacity(debug: bool) -> Study:
    """At width 32 nobody is told of 1,000 times: such a run takes many minutes."""
    base = knowledge.get_config("debug" if debug else "")
    base.train.steps, base.train.epochs = None, None
    models = [_people(8, 0.5), _people(16, 0.5), _people(8, 1.0)]
    if not debug:
        models = [_people(width, load) for width in (8, 16, 24, 32) for load in PEOPLE]
    told = [{"train.epochs": float(times)} for times in ((1,) if debug else EXPOSURES)]
    return Study(
        name="knowledge_capacity",
        question="How many bits does a model know, over its size and how often it was told?",
        base=base,
        runs=product(
            models,
            told,
            where=lambda o: o["model.width"] < 32 or o["train.epochs"] <= 300,
        ),
        x="epochs",
        group=("model.width", "data.people"),
        holdout=False,
    )


def _retrieval(debug: bool) -> Study:
    """Before each of the people stands one who was looked up. What a model knows itself shows where
    that is somebody else, `wrong`; half as many exposures, all of that kind, are what half of the
    exposures of that kind are set beside.
    """
    base = knowledge.get_config("retrieval_debug" if debug else "retrieval")
    base.data.retrieved = 1
    base.train.steps, base.train.epochs = None, None
    sizes = [(8, 2.0)] if debug else [*itertools.product((16, 24), PEOPLE), (32, PEOPLE[1])]
    models = [_people(*size) for size in sizes]
    times = 1.0 if debug else 100.0
    told = [{"data.misses": misses, "train.epochs": times} for misses in (1.0, 0.5)]
    told.append({"data.misses": 1.0, "train.epochs": times / 2})
    return Study(
        name="knowledge_retrieval",
        question="What does a model still know that can look facts up?",
        base=base,
        runs=product(models, told),
        x="params",
        group=("data.misses", "epochs"),
        holdout=False,
    )


def _graph(debug: bool) -> Study:
    base = knowledge.get_config("transe_debug" if debug else "transe")
    widths = (8,) if debug else (4, 8, 16, 32, 64)
    models = [
        {"model.family": family, "optim.weight_decay": DECAYS[family]}
        for family in knowledge.GRAPHS
    ]
    return Study(
        name="knowledge_graph",
        question="How wide must vectors be to foretell the triples of a graph?",
        base=base,
        runs=with_seeds(product(models, grid({"model.width": widths})), 1 if debug else 2),
        x="width",
        group="model.family",
        holdout=False,
    )


_STUDIES = {"capacity": _capacity, "retrieval": _retrieval, "graph": _graph}
