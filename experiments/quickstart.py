"""The quick start: how does the loss fall when width and data grow together?

Widths 16 to 112 at two blocks, 10 training bytes a parameter: 30 times more parameters, about 900
times more compute, from the first to the last. Three seeds where they are cheap. The law is fitted
without the largest model and then asked for its loss.

The peak learning rate is 0.43 / width. `experiments/learning_rate.py` swept it at every width up
to 64; the best of each follows 1 / width, and the loss is flat around it.
"""

from configs import tiny
from scaling.sweep import Study, chain, with_seeds

WIDTHS = (16, 24, 32, 48, 64, 112)


def rung(width: int) -> dict[str, object]:
    """Overrides of one size: heads of 16 channels (12 at width 24), and the learning rate."""
    return {
        "model.width": width,
        "model.heads": -(-width // 16),
        "optim.peak_lr": round(0.43 / width, 6),
    }


def get_study(arg: str = "") -> Study:
    """The study; arg "debug" trains three widths for a few steps."""
    widths = (8, 16, 24) if arg == "debug" else WIDTHS
    return Study(
        name="quickstart",
        question="How does the loss of a byte model of Python code fall when it grows?",
        base=tiny.get_config(arg),
        runs=with_seeds(
            chain([rung(width) for width in widths]),
            3,
            where=lambda run: run["model.width"] < max(widths),
        ),
    )
