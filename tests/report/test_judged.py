"""The figure of samples that were judged."""

import pandas as pd

from scaling.report.judged import judged_figures


def frame() -> pd.DataFrame:
    rows = [
        {"width": width, "params": 100 * width, "sample_distance": 8.0 / width, "loss": 1.0}
        | {"sample_distance_real": 0.5, "seed": 0, "unit": "image", "objective": "adversarial"}
        for width in (4, 8, 16)
    ]
    unjudged = {"width": 32, "params": 3200, "loss": 1.0, "seed": 0}
    return pd.DataFrame([*rows, unjudged])


def test_runs_that_were_judged_are_drawn_with_what_samples_could_reach():
    (drawn,) = judged_figures(frame(), "params")
    seen = drawn.data[drawn.data["what"] == "run"]
    assert dict(zip(seen["params"], seen["sample_distance"], strict=True)) == {
        400: 2.0,
        800: 1.0,
        1600: 0.5,
    }
    (axes,) = drawn.figure.axes
    dashed = [line for line in axes.lines if line.get_label() == "images of the training set"]
    assert [list(line.get_ydata()) for line in dashed] == [[0.5, 0.5]]


def test_nothing_is_drawn_where_nothing_was_judged():
    assert not [*judged_figures(frame().drop(columns="sample_distance"), "params")]
