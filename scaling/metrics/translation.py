"""chrF and BLEU of translations, as sums over texts: sacrebleu's counts and its formulas.

chrF: Popović 2015, with characters up to 6 in a row and beta 2; BLEU: Papineni et al. 2002, by the
tokens of 13a. Both lie between 0 and 100, and are of all texts together. Called by the evaluation
pass `generate` of models that translate.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from scaling.errors import ConfigError


def check() -> None:
    """Raises ConfigError where sacrebleu is not installed."""
    try:
        import sacrebleu  # noqa: F401
    except ImportError:
        raise ConfigError(
            "evaluating translations needs sacrebleu: pip install 'scaling[data]'"
        ) from None


@functools.cache
def _metrics() -> dict[str, Any]:
    from sacrebleu.metrics import BLEU, CHRF

    return {"chrf": CHRF(), "bleu": BLEU()}


def counts(
    generated: Sequence[str], wanted: Sequence[str], weight_B: np.ndarray
) -> dict[str, np.ndarray]:
    """What adds up over texts, float64 [B, ...] by metric; rows without weight are zeros."""
    found = {}
    for name, metric in _metrics().items():
        of_texts = metric._extract_corpus_statistics(list(generated), [list(wanted)])
        found[name] = np.asarray(of_texts, np.float64) * (np.asarray(weight_B) > 0)[:, None]
    return found


def chrf(sums: np.ndarray) -> float:
    """Of the sum of `counts`."""
    return _score("chrf", sums)


def bleu(sums: np.ndarray) -> float:
    """Of the sum of `counts`."""
    return _score("bleu", sums)


def _score(name: str, sums: np.ndarray) -> float:
    whole = [int(count) for count in np.rint(sums)]
    return float(_metrics()[name]._compute_score_from_stats(whole).score)
