"""Figures show what was measured, on the axis that was swept, the same bytes every time."""

import io
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest

from scaling import laws
from scaling.config import override
from scaling.errors import UserError
from scaling.records import find_runs
from scaling.records.conventions import conventions
from scaling.records.tables import curves, table
from scaling.report import figures, style
from scaling.report.axes import check_axis, curves_of, figure_axes, group_of, main_axis
from scaling.report.runs import columns
from scaling.report.sets import gap_figure, pass_figures, sets_figure
from scaling.report.training import curves_figure

from .conftest import record


@pytest.fixture(scope="module")
def frame(width_study):
    return table(width_study[0])


@pytest.fixture(scope="module")
def scored(frame):
    return laws.holdout(frame, options=laws.Options(x="params"))


# ---- which axis


def test_a_study_of_width_is_drawn_over_params_tokens_and_compute(frame):
    assert main_axis(frame) == "params"
    assert figure_axes(frame, "params") == ["params", "tokens", "flops"]
    assert group_of(frame, "params") == ()


@pytest.mark.parametrize(
    ("sweep", "main", "all_axes"),
    [
        ([{"data.unique_tokens": 1000 * 4**i, "train.steps": 100} for i in range(4)],
         "unique_tokens", ["unique_tokens"]),
        ([{"data.unique_tokens": 204_800, "train.steps": 100 * 2**i} for i in range(4)],
         "epochs", ["epochs", "flops"]),
        ([{"train.steps": 100 * 2**i} for i in range(4)],
         "tokens", ["tokens", "flops"]),
        ([{"model.depth": 2**i, "train.steps": 100 * 2**i} for i in range(4)],
         "params", ["params", "tokens", "flops"]),
        ([{"optim.peak_lr": 1e-3 * 2**i} for i in range(4)],
         "optim.peak_lr", ["optim.peak_lr"]),
    ],
    ids=["data", "epochs", "length", "depth", "learning rate"],
)  # fmt: skip
def test_the_axis_is_what_varies(tmp_path, base, sweep, main, all_axes):
    for seed in (0, 1):
        for place, change in enumerate(sweep):
            record(override(base, change | {"seed": seed}), tmp_path, loss=3.0 - 0.2 * place)
    frame = table(tmp_path)
    assert main_axis(frame) == main
    assert figure_axes(frame, main) == all_axes
    assert group_of(frame, main) == ()


def test_runs_of_one_size_that_differ_otherwise_are_lines_of_their_own(tmp_path, base):
    for width in (32, 64):
        for rate in (1e-3, 3e-3):
            for seed in (0, 1):
                change = {"model.width": width, "optim.peak_lr": rate, "seed": seed}
                record(override(base, change), tmp_path, loss=2.0 + rate)
    frame = table(tmp_path)
    assert group_of(frame, "params") == ("optim.peak_lr",)
    parts = curves_of(frame, "params", ["optim.peak_lr"])
    assert [(part.values, len(part.rows)) for part in parts] == [((1e-3,), 4), ((3e-3,), 4)]


@pytest.mark.parametrize("rates", [(1e-3, 2e-3, 3e-3), (1e-3,)])
def test_curves_are_told_apart_by_what_was_chosen_before_what_follows_from_it(
    tmp_path, base, rates
):
    """Warm-ups of two lengths are fewer than three rates; but alone they are what was chosen."""
    for width in (32, 64):
        for number, rate in enumerate(rates):
            for warmup in (2, 4) if len(rates) == 1 else (2 + 2 * (number > 0),):
                change = {"model.width": width, "optim.peak_lr": rate, "optim.warmup_steps": warmup}
                record(override(base, change | {"train.steps": 100}), tmp_path, loss=2.0)
    found = group_of(table(tmp_path), "params")
    assert found[0] == ("optim.peak_lr" if len(rates) > 1 else "optim.warmup_steps")


def test_an_axis_that_is_no_column_is_named(frame):
    with pytest.raises(UserError, match=r'x=parms is no numeric column.*"params"'):
        check_axis(frame, "parms")
    with pytest.raises(UserError, match="x=fingerprint is no numeric column"):
        check_axis(frame, "fingerprint")


# ---- what is drawn


def test_every_seed_the_mean_and_the_held_out_point_are_in_the_data(frame, scored):
    drawn = figures.loss_figure(frame, "params", holdout=scored)
    what = drawn.data["what"].value_counts()
    assert what["run"] == 15
    assert what["mean over seeds"] == 4
    assert what["held out: measured"] == 1
    (bar,) = drawn.data[drawn.data["what"] == "held out: predicted"].to_dict("records")
    assert bar["low"] == scored.low < bar["loss"] < bar["high"] == scored.high
    assert bar["params"] == frame["params"].max()
    line = drawn.data[drawn.data["what"] == "fit"]
    law = scored.fit.predict(line["params"].to_numpy(), kind="mean").mean
    assert np.allclose(line["loss"], law)
    assert (line["low"] < line["high"]).all()


def test_axes_are_labelled_with_units_and_few_round_ticks(frame, scored):
    drawn = figures.loss_figure(frame, "params", holdout=scored)
    top, bottom, *_ = drawn.figure.axes
    assert bottom.get_xlabel() == "parameters"
    assert top.get_ylabel() == "validation loss (nats/token)"
    assert bottom.get_ylabel() == "off the law (%)"
    (second,) = top.child_axes
    assert second.get_ylabel() == "bits per byte"
    labels = [t.get_text() for t in bottom.get_xticklabels()]
    assert 3 <= len(labels) <= 9
    assert {"100k", "1M", "10M"} <= set(labels)


def test_the_legend_covers_no_data(frame, scored):
    assert curves_figure({}, frame, "params") is None
    for drawn in (
        figures.loss_figure(frame, "params", holdout=scored),
        sets_figure(frame, "params"),
        gap_figure(frame, "params"),
    ):
        drawn.figure.draw_without_rendering()
        (legend,) = drawn.figure.legends
        box = legend.get_window_extent()
        page = drawn.figure.bbox
        assert box.x0 >= page.x0
        assert box.x1 <= page.x1
        for axes in drawn.figure.axes:
            assert not box.overlaps(axes.get_tightbbox())


def test_bits_per_byte_have_an_axis_only_where_they_are_one_factor(frame):
    uneven = frame.assign(bits_per_byte=frame["bits_per_byte"] * np.linspace(1, 2, len(frame)))
    assert not figures.loss_figure(uneven, "params").figure.axes[0].child_axes


def test_training_curves_are_coloured_by_size_and_named_once(width_study, frame):
    lines = {run.path.name: curves(run) for run in find_runs(width_study[0])}
    drawn = curves_figure(lines, frame, "params")
    (axes,) = drawn.figure.axes
    _, labels = axes.get_legend_handles_labels()
    assert len(labels) == 5
    colours = {line.get_color() for line in axes.get_lines()}
    assert len(colours) == 5
    assert drawn.data["run"].nunique() == 15
    assert axes.get_xlabel() == "training tokens seen"


def test_what_other_passes_measure_is_drawn_and_shown_under_its_name(frame):
    assert not list(pass_figures(frame, "params"))
    shares = np.linspace(0, 1, len(frame))
    more = {"exact_match/copied": shares, "exact_match/next": shares / 2}
    (drawn,) = pass_figures(frame.assign(**more), "params")
    assert drawn.name == "exact_match"
    assert set(drawn.data["set"]) == {"copied", "next"}
    of = {name: rows.sort_values("params") for name, rows in drawn.data.groupby("set")}
    np.testing.assert_allclose(of["copied"]["exact_match"], 2 * of["next"]["exact_match"].values)
    heads = dict(columns(frame.assign(**more)))
    assert heads["exact_match/copied"] == "share of exact matches (copied)"
    text = conventions(frame.assign(**more))["exact_match/next"]
    assert text.startswith("share of exact matches, of the evaluation set next")
    assert "higher is better" in text


def test_the_gap_is_that_to_the_training_set(frame):
    data = gap_figure(frame, "params").data
    assert np.allclose(data.loc[data["set"] == "validation", "gap"], 0.02)
    assert np.allclose(data.loc[data["set"] == "docs", "gap"], 0.52)
    assert set(sets_figure(frame, "params").data["set"]) == {
        *("validation", "training set", "docs"),
    }
    alone = frame.drop(columns=[c for c in frame if "/" in c])
    assert sets_figure(alone, "params") is None


def test_figures_are_the_same_bytes_every_time(tmp_path, frame, scored):
    for folder in ("a", "b"):
        drawn = figures.loss_figure(frame, "params", holdout=scored)
        paths = figures.save(drawn, tmp_path / folder)
    for path in paths:
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()
    assert sorted(path.suffix for path in paths) == [".csv", ".png", ".svg"]
    text = (tmp_path / "a" / "loss-params.svg").read_text()
    assert "validation loss" in text  # text is text: it can be searched and edited
    pd.testing.assert_frame_equal(
        pd.read_csv(io.StringIO((tmp_path / "a" / "loss-params.csv").read_text())),
        drawn.data,
        check_dtype=False,
    )


def test_drawing_leaves_no_trace(frame):
    def settings():
        return {
            name: matplotlib.rcParams[name] for name in ("font.size", "axes.grid", "font.family")
        }

    before, loaded = settings(), "matplotlib.pyplot" in sys.modules
    style.encode(figures.loss_figure(frame, "params").figure, "png")
    assert settings() == before
    assert ("matplotlib.pyplot" in sys.modules) == loaded


@pytest.mark.parametrize("low", [3.0, 3e4, 9.9e9])
@pytest.mark.parametrize("span", [1.3, 4, 30, 1e3, 1e7, 1e14])
def test_ticks_are_few_and_inside(low, span):
    ticks = style.log_ticks(low, low * span)
    assert 2 <= len(ticks) <= 9
    assert all(low <= tick <= low * span for tick in ticks)


def test_inline_svgs_share_no_id_and_take_the_colours_of_the_page(frame):
    source = figures.loss_figure(frame, "params").svg
    inline = style.inline_svg(source, "one")
    assert inline.startswith("<svg")
    assert 'id="' in inline
    assert inline.count('id="') == inline.count('id="one-')
    assert inline.count("url(#") == inline.count("url(#one-")
    assert "var(--ink)" in inline
    assert style.INK not in inline
