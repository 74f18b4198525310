"""Errors of transcripts, as sums over texts: jiwer's alignments.

Word error rate: the fewest words to be replaced, taken out and put in, over the words that were
said; of characters likewise. Both may exceed 1. Called by the evaluation pass `generate` of models
that transcribe.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from scaling.errors import ConfigError


def check() -> None:
    """Raises ConfigError where jiwer is not installed."""
    try:
        import jiwer  # noqa: F401
    except ImportError:
        raise ConfigError(
            "evaluating transcripts needs jiwer: pip install 'scaling[data]'"
        ) from None


def counts(
    generated: Sequence[str], wanted: Sequence[str], weight_B: np.ndarray
) -> dict[str, np.ndarray]:
    """(errors, words or characters that were said), float64 [B, 2] by metric; rows without weight
    are zeros.
    """
    import jiwer

    found = {name: np.zeros((len(wanted), 2)) for name in ("word_error", "character_error")}
    for i, (text, said, weight) in enumerate(zip(generated, wanted, weight_B, strict=True)):
        if weight > 0:
            found["word_error"][i] = _errors(jiwer.process_words(said, text))
            found["character_error"][i] = _errors(jiwer.process_characters(said, text))
    return found


def _errors(alignment: Any) -> tuple[int, int]:
    wrong = alignment.substitutions + alignment.deletions + alignment.insertions
    return wrong, alignment.hits + alignment.substitutions + alignment.deletions
