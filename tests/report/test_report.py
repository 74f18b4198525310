"""The page stands alone, and says what is known, what is missing and why."""

import html
import html.parser
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from scaling.config import RunConfig, override
from scaling.config.sweep import Study, grid
from scaling.errors import ConfigError, UserError
from scaling.records import RunDirectory
from scaling.records.tables import table
from scaling.report import report
from scaling.report.findings import find, foreseen

from .conftest import EXPONENT, record


class Links(html.parser.HTMLParser):
    """Everything that a browser would fetch, every id, and whether the tags are balanced."""

    def __init__(self):
        super().__init__()
        self.urls, self.ids, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        names = ("src", "href", "xlink:href", "srcset", "data", "action", "poster")
        self.urls += [values[k] for k in names if k in values]
        self.ids += [values["id"]] if "id" in values else []
        if tag not in ("meta", "br", "link", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def study_with_troubles(tmp_path_factory, width_study):
    """The width study with one run failed, one diverged and one never begun."""
    source, configs = width_study
    workdir = tmp_path_factory.mktemp("troubles")
    shutil.copytree(source / "runs", workdir / "runs")
    runs = [RunDirectory.open(config, workdir) for config in configs]
    runs[1].write_status("failed", reason="the <disk> is full")
    runs[4].write_status("diverged", reason="loss is NaN at step 12")
    missing = RunDirectory.open(override(configs[0], {"seed": 9}), workdir)
    return workdir, [*runs, missing]


@pytest.fixture(scope="module")
def page(study_with_troubles):
    workdir, runs = study_with_troubles
    path = report(runs, title="Width & loss")
    assert path == workdir / "report" / "index.html"
    return path.read_text()


def text_of(page):
    """The words of a page, without its figures, styles and script."""
    for tag in ("svg", "style", "script"):
        page = re.sub(rf"<{tag}.*?</{tag}>", " ", page, flags=re.DOTALL)
    words = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    return words.replace(" ,", ",")


def test_the_page_loads_nothing(page):
    links = Links()
    links.feed(page)
    assert links.open == []
    assert links.urls
    assert all(url.startswith(("#", "data:")) for url in links.urls)
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)|fetch\(|XMLHttpRequest", page)
    assert len(links.ids) == len(set(links.ids))
    targets = [url[1:] for url in links.urls if url.startswith("#")]
    assert set(targets) <= set(links.ids)


def test_the_headline_gives_the_law_its_interval_and_the_test(page):
    text = text_of(page)
    found = re.search(r"alpha = ([\d.]+) \(90% interval ([\d.]+) to ([\d.]+)\)", text)
    value, low, high = map(float, found.groups())
    assert low < value < high
    assert low < EXPONENT < high
    assert "The largest point, held out, came out within its predicted interval." in text
    assert "Fitted on 10 runs" in text


def test_what_is_missing_failed_or_diverged_is_named_with_its_command(page, study_with_troubles):
    text, (_, runs) = text_of(page), study_with_troubles
    assert "runs done 13 of 16" in text
    assert "3 runs without a result are not in the figures." in text
    assert "the <disk> is full" in text
    assert "<disk>" not in page
    for run, state in ((runs[1], "failed"), (runs[4], "diverged")):
        assert f"{state} {run.path.name}" in text
        assert f"python launch.py train --run={run.path}" in text
    assert f"missing {runs[-1].path.name} not begun" in text


def test_the_page_shows_the_table_the_configs_and_where_numbers_come_from(page):
    text = text_of(page)
    assert "Width & loss" in text
    for part in ("model.width", "32 (3), 64 (3), 128 (3), 256 (3), 512 (3)", "c0ffee (15 runs)"):
        assert part in text
    assert "optim.b2 0.95" in text  # one of the fields in common
    assert "training FLOPs, forward and backward" in text
    assert re.search(r"jax \d+\.\d+\.\d+", text)
    assert page.count("<tr") > 15


def test_files_stand_beside_the_page(study_with_troubles, page):
    folder = study_with_troubles[0] / "report"
    names = {path.stem for path in (folder / "figures").iterdir()}
    assert names == {
        *("loss-params", "loss-tokens", "loss-flops", "curves", "sets", "gap", "shift")
    }
    assert len(list((folder / "figures").iterdir())) == 3 * len(names)
    assert len(pd.read_parquet(folder / "table.parquet")) == 15
    states = json.loads((folder / "table.json").read_text())["states"]
    assert states == {"diverged": 1, "done": 13, "failed": 1}


def test_too_few_sizes_are_said_not_fitted(tmp_path, base):
    for place, width in enumerate((32, 64, 128)):
        record(override(base, {"model.width": width}), tmp_path, loss=3.0 - 0.2 * place)
    text = text_of(report(tmp_path).read_text())
    assert "No law is fitted: 3 values of parameters with a finished run" in text
    assert "at least 5" in text
    assert "follows" not in text


def test_repeated_data_and_the_time_of_a_group_are_said_once(tmp_path, base):
    """A run of three epochs; and two members of a group, with its seconds each."""
    config = override(base, {"data.unique_tokens": 2048, "train.steps": 3})
    record(config, tmp_path, loss=2.0)
    for seed in (1, 2):
        run = record(override(base, {"seed": seed}), tmp_path, loss=2.0, members=2)
        run.write_status("done", seconds=40.0)
    text = report(tmp_path).read_text()
    assert "1 of 3 runs pass over their distinct training tokens more than once, up to 3" in text
    assert "<dt>of training</dt><dd>40 s</dd>" in text


def test_a_study_of_too_few_sizes_is_foreseen(base):
    rows = [
        {"params": size, "optim.b2": b2}
        for b2, sizes in ((0.9, range(1, 5)), (0.99, range(1, 6)))
        for size in sizes
    ]
    study = Study("mine", base, [{}], group="optim.b2")
    text = foreseen(pd.DataFrame(rows), study)
    assert text.startswith("no law will be fitted, at optim.b2 0.9: power_floor has 3 parameters")
    assert "it needs 5 values of parameters; the study has 4" in text
    four = replace(study, holdout=False)
    assert foreseen(pd.DataFrame(rows), four) == ""


def test_a_law_of_two_columns_counts_pairs(base):
    """Three sizes on three amounts each are nine points, on one amount in proportion three."""
    grid_of = [{"params": p, "tokens": d, "unit": "token"} for p in (1, 2, 3) for d in (1, 2, 3)]
    study = Study("mine", base, [{}], law="chinchilla", holdout=False)
    assert foreseen(pd.DataFrame(grid_of), study) == ""
    line = [{"params": p, "tokens": 20 * p, "unit": "token"} for p in (1, 2, 3)]
    text = foreseen(pd.DataFrame(line), study)
    assert "it needs 6 values of parameters and training tokens; the study has 3" in text


def test_a_loss_that_rises_with_size_is_said(width_study):
    frame = table(width_study[0])
    frame = frame[frame["width"] <= 256]
    frame.loc[frame["width"] == 256, "loss"] += 0.5
    why, note = find(frame, "params", "power_floor").notes
    assert why.startswith("No law is fitted: 4 values")
    assert re.fullmatch(r"The mean loss does not fall from 819k to 3.21M parameters: .*", note)


def test_a_study_gives_title_axis_and_curves(tmp_path, base):
    runs = grid({"model.width": [32, 64], "optim.peak_lr": [1e-3, 3e-3]})
    study = Study(
        name="rate", question="Where is the best rate?", base=base, runs=runs,
        x="optim.peak_lr", group="model.width",
    )  # fmt: skip
    for change in runs[:3]:
        record(override(base, change), tmp_path, loss=2.0)
    directories = [RunDirectory.open(override(base, change), tmp_path) for change in runs]
    path = report(directories, study=study)
    text = text_of(path.read_text())
    assert path == tmp_path / "report" / "rate" / "index.html"
    assert "Where is the best rate?" in text
    assert "Loss against peak learning rate" in text
    assert "takes three learning rates: tried 2" in text
    assert "takes three learning rates: tried 1" in text
    assert "1 run without a result is not in the figures." in text


def test_two_corpora_are_loud_on_the_page(tmp_path, base):
    record(base, tmp_path, loss=2.0)
    record(override(base, {"data.corpus": "0ther"}), tmp_path, loss=2.0)
    text = text_of(report(tmp_path).read_text())
    assert "2 DIFFERENT CORPORA" in text
    assert "validation split by blocks of about 256 bytes" in text


def test_a_workdir_where_nothing_is_done_or_begun(tmp_path, base):
    with pytest.raises(UserError, match="holds no run that has begun"):
        report(tmp_path)
    run = RunDirectory.open(base, tmp_path)
    run.start(base, {}, size={"params": 1e6})
    text = text_of(report(tmp_path).read_text())
    assert "No law is fitted: 0 values of parameters with a finished run" in text
    assert f"stopped {run.path.name}" in text


def test_an_unwritable_folder_is_named(tmp_path, base):
    record(base, tmp_path, loss=2.0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file/report"):
        report(tmp_path, out=tmp_path / "file" / "report")


def test_an_unknown_law_is_named(tmp_path, base):
    record(base, tmp_path, loss=2.0)
    with pytest.raises(UserError, match=r'law=pwer is unknown \(did you mean "power"\?\)'):
        report(tmp_path, law="pwer")


def test_data_that_no_law_fits_give_a_note(width_study):
    frame = table(width_study[0])
    finding = find(frame.assign(loss=-frame["loss"]), "params", "power_floor")
    assert finding.fit is None
    assert finding.notes[0].startswith("No law is fitted: ")


def test_a_study_of_the_learning_rate_marks_each_best_rate_and_its_law(tmp_path, base):
    """A size whose best rate is the largest tried has none; the law goes through the others."""
    rng = np.random.default_rng(0)
    for width in (16, 24, 32, 48):
        best = (0.4 if width < 48 else 4.0) / width
        for factor in (0.5, 0.71, 1.0, 1.41, 2.0):
            change = {"model.width": width, "optim.peak_lr": 0.4 / width * factor}
            off = np.log(change["optim.peak_lr"] / best)
            loss = (1 + 10 / width) * (1 + 0.02 * off**2 + rng.normal(0, 0.001))
            record(override(base, change), tmp_path, loss)
    study = Study("rates", base, [{}], x="optim.peak_lr", group="model.width")
    page = report(tmp_path, study=study)
    text = text_of(page.read_text())
    assert "at the edge, no interval: the best is the largest rate tried" in text
    assert "follows" not in text  # no law of the loss over the rate
    stored = json.loads((page.parent / "optimum.json").read_text())
    (law,) = stored["laws"]
    params = [12 * 4 * width**2 + 257 * width for width in (16, 24, 32, 48)]
    known = np.polyfit(np.log(params[:3]), -np.log([16, 24, 32]), 1)[0]
    assert law["low"] <= known <= law["high"]
    assert f"^{law['exponent']:.3g} (90% interval of the exponent {law['low']:.3g} to" in text
    assert [curve["size"] for curve in stored["optima"]] == params
    for found, width in zip(stored["optima"][:3], (16, 24, 32), strict=True):
        assert found["low"] <= 0.4 / width <= found["high"]
        assert f"{found['low']:.3g} to {found['high']:.3g}" in text
    assert stored["optima"][3]["low"] == "NaN"
    drawn = pd.read_csv(page.parent / "figures" / "best-rate-law.csv")
    assert set(drawn["what"]) >= {"law", "model.width 16", "model.width 32"}


def test_rates_at_which_the_loss_is_zero_are_shown_as_they_are(tmp_path, base):
    """What is written without a mistake has no percent above it."""
    for width, losses in ((16, (0.2, 0.02, 0.1)), (32, (0.1, 0.0, 0.05))):
        for rate, loss in zip((1e-3, 2e-3, 4e-3), losses, strict=True):
            record(override(base, {"model.width": width, "optim.peak_lr": rate}), tmp_path, loss)
    study = Study("rates", base, [{}], x="optim.peak_lr", group="model.width")
    page = report(tmp_path, study=study)
    drawn = pd.read_csv(page.parent / "figures" / "best-optim-peak-lr.csv")
    runs = drawn[drawn["what"] == "run"]
    assert "above_percent" not in drawn
    found = runs[runs["curve"] == "model.width 32"].set_index("optim.peak_lr")["above"]
    assert found[1e-3] - found[2e-3] == pytest.approx(0.1)


def test_a_study_says_how_sharply_its_law_turns_from_outliers(tmp_path):
    """Six runs on a law and one off it: the absolute loss passes by it, least squares are drawn."""
    params = np.geomspace(1e4, 1e6, 7)
    loss = 1 + 50 / params**0.4
    loss[3] *= 1.02
    frame = pd.DataFrame({"params": params, "loss": loss, "status": "done"})
    exponents = {
        delta: find(frame, "params", "power_floor", False, delta=delta).fit.params["alpha"]
        for delta in (1e-5, 1.0)
    }
    assert abs(exponents[1e-5] - 0.4) < 1e-3 < abs(exponents[1.0] - 0.4)
    with pytest.raises(ConfigError, match="delta=0 must be positive"):
        Study("a", base=RunConfig(), runs=[{}], delta=0)


def test_a_study_of_many_sizes_is_tested_at_several_cuts():
    params = np.geomspace(1e4, 1e7, 9)
    loss = (1 + 50 / params**0.4) * (1 + 1e-3 * np.random.default_rng(0).normal(size=9))
    frame = pd.DataFrame({"params": params, "loss": loss, "status": "done"})
    found = find(frame, "params", "power_floor", rolling=True).backtest
    assert found.rows.below.nunique() >= 2
    assert len(found.rows) > found.rows.below.nunique()
    assert find(frame[:6], "params", "power_floor", rolling=True).backtest is None
    assert find(frame, "params", "power_floor", False).backtest is None
