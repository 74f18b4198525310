"""What tasks reach over seeds, from a table that is made by hand."""

import math

import pandas as pd
import pytest

from benchmarks.tasks import PROBE, judged


def row(objective, seed, status="done", rate=1e-3, **measured):
    nothing = {"loss": 1.0, "objective": objective, "seed": seed, "status": status}
    return nothing | {"optim.peak_lr": rate} | measured


def test_seeds_are_averaged_and_the_worst_of_them_is_held_against_the_bar():
    rows = [row("tagging", seed, accuracy=value) for seed, value in enumerate((0.98, 0.99, 0.96))]
    rows += [row("ctc", 0, **{"word_error/texts": 0.04})]
    rows += [row("ctc", 1, status="running", **{"word_error/texts": math.nan})]
    found = judged(pd.DataFrame(rows)).set_index("task")
    assert list(found.index) == ["tagging", "ctc"]
    assert found.loc["tagging", "mean"] == pytest.approx(0.97666, abs=1e-4)
    assert found.loc["tagging", "deviation"] == pytest.approx(0.01528, abs=1e-4)
    assert not found.loc["tagging", "past"]  # one seed of three is not
    assert found.loc["ctc", "runs"] == 1
    assert found.loc["ctc", "past"]  # of errors less is better
    assert math.isnan(found.loc["ctc", "deviation"])


def test_features_are_held_against_the_encoder_that_began_with_the_same_seed():
    trained, began = {0: 0.9, 1: 0.8}, {1: 0.65, 0: 0.7}
    rows = [row("contrastive_views", seed, **{PROBE: of}) for seed, of in trained.items()]
    rows += [row("contrastive_views", seed, rate=0.0, **{PROBE: of}) for seed, of in began.items()]
    found = judged(pd.DataFrame(rows)).iloc[0]
    assert (found["least"], found["most"]) == pytest.approx((0.15, 0.2))
    assert found["past"]


def test_of_two_ways_between_images_and_texts_the_worse_one_counts():
    rows = [row("contrastive", 0, image_to_text=0.95, text_to_image=0.92)]
    rows += [row("contrastive", 1, image_to_text=0.89, text_to_image=0.99)]
    found = judged(pd.DataFrame(rows)).iloc[0]
    assert (found["least"], found["most"]) == (0.89, 0.92)
    assert not found["past"]
