"""Which names are right, by how much they are like their source."""

import math

import numpy as np
import pytest

from benchmarks.names import distance, judged, kind_of, told


@pytest.mark.parametrize(
    ("one", "other", "steps"),
    [("", "abc", 3), ("kitten", "sitting", 3), ("Mali", "Mali", 0), ("ab", "ba", 2)],
)
def test_a_distance_is_that_of_the_shortest_way(one, other, steps):
    assert distance(one, other) == distance(other, one) == steps


def test_names_are_the_same_near_or_other():
    assert kind_of("Mali", "Mali") == "same"
    assert kind_of("Bulgarian", "Bulgarisch") == "near"
    assert kind_of("Hungary", "Ungarn") == "other"


def test_shares_are_of_each_kind_and_copies_of_the_mistakes():
    pairs = [("Mali", "Mali"), ("Togo", "Togo"), ("Bulgarian", "Bulgarisch"), ("Dutch", "Xy")]
    found = judged(pairs, ["Mali", "Toga", "Bulgarian", "Dutch"])
    assert found["all"] == pytest.approx(0.25)
    assert (found["same"], found["near"], found["other"]) == (0.5, 0.0, 0.0)
    assert found["copied"] == pytest.approx(2 / 3)
    assert math.isnan(judged(pairs[:2], ["Mali", "Togo"])["near"])


def test_letters_tell_what_they_can():
    """Names in -ish are others, those without are alike; of a coin nothing is told."""
    stems = [a + b + c for a in "BKMT" for b in "aeiou" for c in "lmnr"]
    names = [(s, s) for s in stems] + [(s + "ish", s + "isch") for s in stems]
    found = told(names[::2], names[1::2])
    assert found == {"area": 1.0, "same": 1.0, "others": 0.0}
    sides = np.random.default_rng(0).integers(0, 2, len(stems))
    coin = [(stem, stem if side else "x") for stem, side in zip(stems, sides, strict=True)]
    assert 0.2 < told(coin[::2], coin[1::2])["area"] < 0.8
