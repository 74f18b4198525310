"""Which names are right, by how much they are like their source."""

import math

import pytest

from benchmarks.names import distance, judged, kind_of


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
