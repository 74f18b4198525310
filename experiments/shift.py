"""Is a model that is better on held-out data as much better on data that is not like it?

Networks of several widths on growing numbers of images of digits, evaluated on held-out ones and on
these made worse in five ways; or, `:text`, byte models of several widths and lengths of training on
code, evaluated on prose. If size plays no part of its own, all runs lie on one line (Miller et al.
2021, arXiv 2107.04649): the report says how far they are off it.
"""

from configs import tiny, vision
from scaling.config import eval_set, from_dict, is_debug
from scaling.config.sweep import Study, grid, product, with_seeds

WAYS = ("noise", "blur", "contrast", "occlusion", "rotation")


def get_study(arg: str = "") -> Study:
    """Three widths on four numbers of images, or widths by lengths of text; "debug": few steps."""
    of_text = arg.startswith("text")
    debug = is_debug(arg.removeprefix("text").removeprefix("_"))
    return _text(debug) if of_text else _images(debug)


def _images(debug: bool) -> Study:
    base = vision.get_config("debug" if debug else "")
    base.train.epochs = None
    base.train.steps = 4 if debug else 400
    with base.unlocked():
        for way in WAYS:
            base.evals.sets[way] = eval_set(corruption=way, severity=3)
    axes = {
        "model.width": (4, 8) if debug else (4, 8, 16),
        "data.unique_examples": (64, 128) if debug else (90, 180, 360, 1437),
    }
    return Study(
        name="shift",
        question="Are networks that are better on digits as much better on digits made worse?",
        base=base,
        runs=with_seeds(grid(axes), 1 if debug else 2),
        x="params",
        group="data.unique_examples",
        holdout=False,
    )


def _text(debug: bool) -> Study:
    base = tiny.get_config("debug" if debug else "")
    widths, lengths = ((16, 24), (512, 1024)) if debug else ((16, 32, 48, 64), (2e5, 5e5, 1e6, 2e6))
    shapes = [tiny.RECIPE.shape(width, from_dict(base)) for width in widths]
    of_length: dict[str, list[int | None]] = {
        "train.tokens_per_param": [None],
        "train.tokens": [int(n) for n in lengths],
    }
    return Study(
        name="shift_text",
        question="Are models that are better on code as much better on prose?",
        base=base,
        runs=product(shapes, grid(of_length)),
        x="params",
        holdout=False,
    )
