"""Curves are told apart by the values themselves: as many come out as go in, None among them."""

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.config import override
from scaling.config.sweep import Study, grid
from scaling.errors import ConfigError
from scaling.records.tables import table
from scaling.report import report
from scaling.report.axes import curves_in, curves_of, group_of, groups_in, is_rate, main_axis
from scaling.report.figures import loss_figure
from scaling.report.sets import gap_figure
from scaling.studies import study

from .conftest import record

CLOSE = (0.95, 0.99, 0.995, 0.999, 0.9999)
VALUES = st.one_of(
    st.sampled_from([*CLOSE, math.nextafter(0.95, 1), 1.0, 1, True, "1", "None", "a/b", "a.b", ""]),
    st.none(),
    st.floats(allow_nan=False),
    st.text(max_size=3),
)


def key(value):
    """Equality of group values, said another way than in the code."""
    kind = "number" if isinstance(value, int | float) and not isinstance(value, bool) else "other"
    return (kind, value) if kind == "number" else (type(value).__name__, value)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=10))
def test_as_many_curves_come_out_as_pairs_of_values_go_in(pairs):
    first, second = (pd.Series([p[i] for p in pairs], dtype=object) for i in (0, 1))
    rows = pd.DataFrame({"a": first, "b": second})
    curves = curves_in(rows, ["a", "b"])
    assert len(curves) == len({(key(a), key(b)) for a, b in pairs})
    assert len({curve.name for curve in curves}) == len(curves)
    assert len({curve.places for curve in curves}) == len(curves)
    assert sorted(i for curve in curves for i in curve.rows.index) == list(range(len(pairs)))
    for curve in curves:
        for row in curve.rows.itertuples():
            assert [key(row.a), key(row.b)] == [key(value) for value in curve.values]


def test_groups_stand_in_the_order_of_their_values_and_none_is_the_last():
    column = pd.Series([None, 10.0, "b", 9.5, "a", float("nan")], dtype=object, name="x")
    assert groups_in(column).tolist() == [4, 1, 3, 0, 2, 4]


def test_amounts_that_follow_from_whole_steps_are_one_where_they_nearly_agree():
    rows = pd.DataFrame({"epochs": [0.998, 1.0, 1.049, 2.003, 1.997, 4.0], "loss": 1.0})
    curves = curves_in(rows, ["epochs"])
    assert [len(curve.rows) for curve in curves] == [3, 2, 1]
    assert [curve.name for curve in curves] == ["1.02 epochs", "2 epochs", "4 epochs"]


def test_a_config_field_varies_however_close_its_values(tmp_path, base):
    for b2 in (0.995, 0.999):
        record(override(base, {"optim.b2": b2}), tmp_path, loss=2.0 + b2)
    assert main_axis(table(tmp_path)) == "optim.b2"


@pytest.fixture(scope="module")
def three(tmp_path_factory, base):
    """Two sizes of every combination of three fields, one of which is off in some."""
    workdir = tmp_path_factory.mktemp("three")
    fields = {
        "model.width": (32, 64),
        "optim.b2": CLOSE,
        "optim.clip_norm": (None, 0.5),
        "optim.name": ("adamw", "lion"),
    }
    runs = grid(fields)
    for number, change in enumerate(runs):
        record(override(base, change), workdir, loss=2.0 + 0.01 * number)
    return workdir, runs


BY = ("optim.b2", "optim.clip_norm", "optim.name")


def test_runs_are_told_apart_by_all_that_differs(three):
    frame = table(three[0])
    assert set(group_of(frame, "params")) == set(BY)
    curves = curves_of(frame, "params", BY)
    assert [len(curve.rows) for curve in curves] == [2] * 20
    assert curves[0].name == "optim.b2 0.95, optim.clip_norm 0.5, optim.name adamw"
    assert curves[-1].name == "optim.b2 0.9999, optim.clip_norm None, optim.name lion"


def test_a_figure_tells_three_fields_by_colour_marker_and_line(three):
    drawn = loss_figure(table(three[0]), "params", by=BY)
    (axes,) = drawn.figure.axes[:1]
    lines = [line for line in axes.get_lines() if len(line.get_xdata()) == 2]
    looks = {(x.get_color(), x.get_marker(), str(x.get_linestyle()), x._dash_pattern[1] is None)
             for x in lines}  # fmt: skip
    assert len(lines) == len(looks) == 20
    assert len({x.get_color() for x in lines}) == 5
    assert len({x.get_marker() for x in lines}) == 2
    (legend,) = drawn.figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[:1] == ["optim.b2 0.95"]
    assert len(texts) == len(set(texts)) == 5 + 2 + 2
    assert {"optim.clip_norm None", "optim.name lion", "optim.b2 0.9999"} <= set(texts)
    means = drawn.data[drawn.data["what"] != "run"]
    assert means["what"].nunique() == 20


def test_other_sets_are_not_averaged_over_curves(three):
    data = gap_figure(table(three[0]), "params", by=BY).data
    assert data["curve"].nunique() == 20
    assert (data.groupby(["curve", "set"]).size() == 2).all()


def test_a_report_shows_every_value_whole_and_says_what_has_no_place_on_its_axis(tmp_path, base):
    runs = grid({"optim.b2": CLOSE, "optim.clip_norm": (None, 0.5)})
    for number, change in enumerate(runs):
        record(override(base, change), tmp_path, loss=2.0 + 0.01 * number)
    mine = Study("many", base, runs, x="optim.clip_norm", group="optim.b2")
    page = report(tmp_path, study=mine)
    text = page.read_text()
    for value in CLOSE:
        assert f"optim.b2 {value:g}" in text
        assert f'<td data-key="{value}">{value:g}</td>' in text
    assert '<td data-key="">None</td>' in text
    assert "5 runs have optim.clip_norm=None, which is no place on an axis" in text
    frame = pd.read_parquet(page.parent / "table.parquet")
    assert frame["optim.clip_norm"].isna().sum() == 5


@pytest.mark.parametrize(
    "group", [("optim.b2", "optim.b2"), ("optim.b2", "seed", "model.width", "optim.name")]
)
def test_a_study_groups_by_up_to_three_different_fields(base, group):
    with pytest.raises(ConfigError, match="must be up to three different fields"):
        Study("mine", base, [{}], group=group)


def test_every_field_of_a_group_is_checked_before_anything_is_trained(tiny):
    runs = grid({"model.width": (8, 16), "optim.b2": (0.9, 0.99)})
    config = tiny()
    fine = Study("mine", config, runs, group=("optim.b2", "model.width"), x="params")
    study._check_axes(fine, [override(config, run) for run in runs])
    wrong = Study("mine", config, runs, group=("optim.b2", "model.widht"), x="params")
    with pytest.raises(ConfigError, match=r'group="model.widht" is no column.*model\.width'):
        study._check_axes(wrong, [override(config, run) for run in runs])


def test_which_columns_are_learning_rates():
    assert [
        c for c in ("optim.peak_lr", "lr", "optim.final_lr_fraction", "params") if is_rate(c)
    ] == [
        "optim.peak_lr",
        "lr",
    ]


def test_runs_that_share_a_trunk_are_said(tmp_path, base):
    for steps in (100, 200, 400):
        run = record(override(base, {"train.steps": steps}), tmp_path, loss=3.0 - steps / 1000)
        if steps < 400:
            run.write_branch("the-longest", steps // 2)
    text = report(tmp_path).read_text()
    assert "2 of 3 runs branch off 1 trunk (column branched_from)" in text
    assert "not independent" in text
