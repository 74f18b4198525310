"""Where the losses from scratch and pretrained meet, from a table that is made by hand."""

import math

import pandas as pd
import pytest

from benchmarks.labels import compared, met


def rows(unique, scratch, pretrained, se=0.01, width=32):
    """Runs of as many seeds as there are losses."""
    ways = {"scratch": scratch, "whole": pretrained}
    return [
        {"width": width, "unique": float(unique), "trained": way, "loss": loss}
        | {"loss_se": se, "accuracy": 1 - loss}
        for way, losses in ways.items()
        for loss in losses
    ]


def of(*parts):
    return compared(pd.DataFrame([row for part in parts for row in part]))


def test_seeds_are_averaged_and_their_spread_is_part_of_the_error():
    one, two = rows(32, [0.5], [0.2]), rows(64, [0.3, 0.5], [0.1, 0.2])
    found = of(one, two, rows(128, [0.4], [])).set_index("unique")
    assert list(found.index) == [32, 64]  # the last was trained in one way alone
    assert found.loc[32, "difference"] == pytest.approx(0.3)
    assert found.loc[32, "se"] == pytest.approx(0.01 * math.sqrt(2))
    assert found.loc[64, "difference"] == pytest.approx(0.25)
    # Variances of samples of two, over two; what they are evaluated on is the same
    spread = 0.02 / 2 + 0.005 / 2
    assert found.loc[64, "se"] == pytest.approx(math.sqrt(2 * 0.01**2 + spread))
    assert found.loc[64, "pretrained_accuracy"] == pytest.approx(0.85)


def test_they_have_met_where_no_later_difference_is_beyond_its_error():
    apart, near = [0.5], [0.2]
    same, worse = ([0.2], [0.19]), ([0.2], [0.3])
    assert met(of(rows(32, apart, near), rows(64, *same), rows(128, *worse))) == 64
    # Within an error once, and apart again: they have not met there
    assert met(of(rows(32, *same), rows(64, apart, near), rows(128, *same))) == 128
    assert met(of(rows(32, *same), rows(64, apart, near))) is None
