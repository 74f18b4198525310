"""Which questions are right, by how many of their sort a text has."""

import math

import numpy as np
import pandas as pd
import pytest

from benchmarks.answers import asked, judged

SEPARATOR = 256


def test_shares_are_of_texts_with_as_many_questions_and_mistakes_another_s_answer():
    rows = [
        ("f", "default of a", (0, 1), (0, 1)),
        ("f", "annotation of a", (4, 5), (4, 4)),
        ("g", "default of a", (0, 1), (2, 3)),
        ("g", "default of b", (2, 3), (2, 3)),
    ]
    found = judged(pd.DataFrame(rows, columns=["text", "question", "answer", "said"]))
    assert found["all"] == 0.5
    assert (found["1"], found["2"]) == (0.5, 0.5)
    assert math.isnan(found["3"])
    assert found["another's"] == pytest.approx(0.5)


def test_places_are_those_of_the_text():
    text = b"def f(a=1, b=22): pass"
    row = [SEPARATOR, *b"default of b", SEPARATOR, *text, 0, 0]
    begins = 1 + len(b"default of b") + 1
    at = text.index(b"22")
    batch = {
        "tokens": np.array([row, row]),
        "start": np.array([begins + at] * 2),
        "end": np.array([begins + at + 1] * 2),
    }
    said = np.array([[begins + at, begins + at + 1], [begins + 8, begins + 8]])
    frame = asked(batch, said)
    assert frame["question"].tolist() == ["default of b"] * 2
    assert frame["answer"][0] == frame["said"][0] == (at, at + 1)
    assert frame["said"][1] == (8, 8)
    assert judged(frame)["all"] == 0.5
