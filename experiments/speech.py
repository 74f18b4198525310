"""How do errors of transcripts fall with hours of speech, and with the width of the model?

Spoken digits; the voices of the evaluation are never heard in training. All runs make as many
updates, so that fewer utterances are heard more often.
"""

from configs import speech
from scaling.config import from_dict, is_debug
from scaling.config.sweep import Study, product

UTTERANCES = (150, 600, 2400)  # of 0.9 seconds on average: 2 minutes to 36
WIDTHS = (24, 48)


def get_study(arg: str = "") -> Study:
    """Three amounts of speech at two widths; "debug": two widths."""
    debug = is_debug(arg)
    base = speech.get_config(arg)
    if not debug:
        base.train.steps = 1000
        base.model.spec_augment = 0.0  # short runs: what is hidden from them is not made up for
        base.train.log_every = 50
        base.evals.batches = 6
    amounts, widths = ((16, 32), (8, 16)) if debug else (UTTERANCES, WIDTHS)
    own = {"model.depth": 1, "train.batch_size": 4} if debug else {"train.batch_size": 16}
    shapes = [speech.RECIPE.shape(width, from_dict(base)) | own for width in widths]
    heard = [{"data.unique_utterances": amount} for amount in amounts]
    return Study(
        name="speech",
        question="How do errors of transcripts fall with hours of speech, and with width?",
        base=base,
        runs=product(heard, shapes),
        x="unique_utterances",
        group="model.width",
        holdout=False,
    )
