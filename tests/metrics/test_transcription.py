"""Word and character errors of known transcripts."""

import numpy as np

from scaling.metrics import transcription
from scaling.metrics.declared import TRANSCRIPTIONS
from scaling.metrics.finish import finish


def test_errors_add_up_over_texts_and_rows_without_weight_are_nothing():
    said = ["one two three", "four", ""]
    written = ["one three three four", "", "five"]
    found = transcription.counts(written, said, np.array([1.0, 1.0, 0.0]))
    np.testing.assert_array_equal(found["word_error"], [[2, 3], [1, 1], [0, 0]])
    np.testing.assert_array_equal(found["character_error"][1:], [[4, 4], [0, 0]])
    assert finish(found, TRANSCRIPTIONS)["word_error"] == 3 / 4
