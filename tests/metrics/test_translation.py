"""chrF and BLEU from sums are sacrebleu's of all texts at once."""

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF

from scaling.metrics import translation
from scaling.metrics.declared import TRANSLATIONS
from scaling.metrics.finish import finish

WROTE = ["Samstag, 28. November", "Haus und Hof", "zwölf Kilometer", "nichts", ""]
WANTED = ["Sonntag, 28. November", "Haus und Garten", "zwölf Kilometer", "etwas", "Leere"]


def test_they_are_sacrebleus_and_rows_without_weight_count_for_nothing():
    weight = np.array([1, 1, 1, 0, 1])
    rows = translation.counts(WROTE, WANTED, weight)
    found = finish(rows, TRANSLATIONS)
    wrote, wanted = (list(np.array(of)[weight > 0]) for of in (WROTE, WANTED))
    assert found["chrf"] == pytest.approx(CHRF().corpus_score(wrote, [wanted]).score, rel=1e-9)
    assert found["bleu"] == pytest.approx(BLEU().corpus_score(wrote, [wanted]).score, rel=1e-9)
    assert 0 < found["chrf_se"] < 100
