"""Which learning rate and which batch does a model of this size want, on this much data?

Every rate with every batch, for each size of model and of data: what is fitted are the best of
each. `sweep --tune` searches one size instead.
"""

import itertools

from configs import tiny
from scaling.config import is_debug
from scaling.config.search import Search, among
from scaling.config.sweep import Study

RATES = tuple(2.0**octave for octave in (-8.5, -7.5, -6.5, -5.5, -4.5))
BATCHES = (1, 2, 4, 8, 16)  # windows of 128 bytes
WIDTHS, LENGTHS = (24, 48), (98_304, 294_912)  # bytes


def get_study(arg: str = "") -> Study:
    """Two widths, two lengths, five batches, five rates."""
    debug = is_debug(arg)
    base = tiny.bare(arg)
    base.train.tokens = 2_048 if debug else LENGTHS[-1]
    base.model.width = 8 if debug else WIDTHS[0]
    base.model.heads = 1 if debug else 2
    rates, batches = (RATES[1::2], BATCHES[1:3]) if debug else (RATES, BATCHES)
    widths, lengths = ((8, 16), (2_048, 4_096)) if debug else (WIDTHS, LENGTHS)
    head_dim = 8 if debug else 12
    return Study(
        name="lr_batch",
        question="Which learning rate and which batch do size and data want?",
        base=base,
        runs=[
            {
                "model.width": width,
                "model.heads": max(1, width // head_dim),
                "train.tokens": tokens,
                "train.batch_size": batch,
                "optim.peak_lr": rate,
            }
            for width, tokens, batch, rate in itertools.product(widths, lengths, batches, rates)
        ],
        x="optim.peak_lr",
        group=("model.width", "train.batch_size", "tokens"),
        holdout=False,
        search=Search(
            axes={"optim.peak_lr": among(rates), "train.batch_size": among(batches)},
            trials=6 if debug else 20,
            at_once=3 if debug else 10,
            # At a ninth of the steps the order is not yet that of the end: docs/studies.md.
            rungs=(1 / 4, 1 / 2),
        ),
    )
