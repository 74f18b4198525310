"""Which way of bringing an image and a question together wins, and at which size? And what is left
of each where one of the two is missing?

Questions about scenes of three handwritten digits ("what is above seven?"), answered on digits that
training has never seen. Guessing among the digits of a scene is right in a third of all cases.
"""

from configs import scenes
from scaling.config import from_dict, is_debug
from scaling.config.sweep import Study, product

FUSIONS = ("average", "concatenation", "gated", "cross")
WIDTHS = (16, 48)
FACTORS = (1.0, 2.0)  # of the recipe's rate, which was measured for cross-attention alone


def get_study(arg: str = "") -> Study:
    """Four fusions at two widths and two rates; "debug": two fusions at one width."""
    debug = is_debug(arg)
    base = scenes.get_config("questions_debug" if debug else "questions")
    if not debug:
        base.train.steps = 2000  # of 800, most have only learned which digits are there
        base.evals.batches = 10
    fusions, widths = (FUSIONS[2:], (8,)) if debug else (FUSIONS, WIDTHS)
    own = {"model.depth": 1, "train.batch_size": 8} if debug else {}
    shapes = [scenes.RECIPE.shape(width, from_dict(base)) | own for width in widths]
    at = [
        shape | {"optim.peak_lr": shape["optim.peak_lr"] * f} for shape in shapes for f in FACTORS
    ]
    return Study(
        name="multimodal",
        question="Which fusion of an image and a question wins at which size?",
        base=base,
        runs=product([{"model.fusion": fusion} for fusion in fusions], at),
        x="params",
        group=("model.fusion", "optim.peak_lr"),
        holdout=False,
    )
