"""The words of a report are those of the metrics, the units and the objective of its runs."""

import json
import pathlib
import re

import numpy as np
import pandas as pd
import pytest

from configs import vision
from scaling.config import choices, override
from scaling.config.sweep import Study, grid
from scaling.laws.fit_command import fit_command
from scaling.laws.options import FitRequest
from scaling.records.conventions import conventions
from scaling.records.status import status_lines
from scaling.records.tables import table
from scaling.report import laws as law_figures
from scaling.report import report
from scaling.report.findings import foreseen
from scaling.studies import study
from scaling.train.loop import train

from .conftest import record
from .test_report import Links, text_of

WIDTHS = (8, 16, 32, 64, 128, 256)
WRITTEN = (".html", ".svg", ".json", ".csv")


def everything(folder):
    """All that was written, as text, without what is encoded."""
    paths = [p for p in pathlib.Path(folder).rglob("*") if p.suffix in WRITTEN]
    return re.sub(r"base64,[\w+/=]+", "", "\n".join(p.read_text() for p in paths))


def axis_texts(folder, name):
    """The texts of a figure."""
    svg = (folder / "figures" / f"{name}.svg").read_text()
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


# ---- images, trained


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A study of one width of configs/vision.py:debug: its workdir and its page."""
    workdir = tmp_path_factory.mktemp("digits")
    plan = Study("digits", vision.get_config("debug"), grid({"model.width": [8]}))
    for config in study.runs(plan):
        assert train(config, workdir).status == "done"
    return workdir, report(workdir, study=plan)


@pytest.mark.slow
def test_a_report_of_images_speaks_of_images(digits, capsys):
    workdir, page = digits
    text = text_of(page.read_text())
    assert "training images 288" in text
    assert "loss (nats) accuracy Brier score" in text
    assert "images amount, of runs whose unit is the image" in text
    assert "token" not in everything(page.parent)
    assert "validation loss (nats)" in axis_texts(page.parent, "loss-params")
    assert "training images seen" in axis_texts(page.parent, "curves")
    assert "token" not in "\n".join(status_lines(workdir))
    facts = json.loads((page.parent / "table.json").read_text())
    assert facts["units"] == ["image"]
    assert facts["metrics"]["classification"]["accuracy"] == {
        "label": "accuracy",
        "unit": "",
        "better": "higher",
    }
    frame = pd.read_parquet(page.parent / "table.parquet")
    assert {"images", "unique_images", "accuracy"} <= set(frame)
    assert not [c for c in frame if "token" in c]


# ---- a kind of data and an objective that the house does not know


def better(config):
    return choices.objective(config.objective).metrics["loss"].better


@pytest.fixture
def heap(tmp_path, grains):
    """Six sizes, the larger the better; what the objective calls them, and the workdir."""
    sign, rng = -1 if better(grains) == "higher" else 1, np.random.default_rng(0)
    for width in WIDTHS:
        config = override(grains, {"model.width": width, "train.steps": 10 + width})
        params = 12 * config.model.depth * width**2 + 257 * width
        run = record(config, tmp_path, 3.0 + sign * 20 * params**-0.4 + rng.normal(0, 0.002))
        run.append({"step": 10, "split": "watch", "activation/layers.0": 1.5})
    return tmp_path


def test_a_guest_s_unit_and_metric_stand_on_every_page_and_no_other(heap, grains):
    page = report(heap, study=Study("heap", grains, [{}], x="amount"))
    folder, text = page.parent, text_of(page.read_text())
    written = everything(folder)
    assert "nats" not in written
    assert "token" not in written
    assert "surprise (bits/grain)" in text
    assert "Surprise against training grains" in text
    assert "training grains" in text
    assert "validation surprise (bits/grain)" in axis_texts(folder, "loss-grains")
    assert "training grains" in axis_texts(folder, "loss-grains")
    assert "training grains seen" in axis_texts(folder, "curves")
    assert "surprise (bits/grain)" in axis_texts(folder, "curves")
    said = conventions(table(heap))
    assert said["loss"].startswith("surprise, bits/grain, mean over the evaluation set")
    assert said["loss"].endswith("higher is better") == (better(grains) == "higher")
    (head, *_) = status_lines(heap)
    assert "surprise" in head
    assert "loss" not in head


def test_findings_go_by_what_is_better(heap, grains):
    text = text_of(report(heap, study=Study("heap", grains, [{}])).read_text())
    planned = pd.DataFrame({"params": range(1, 9), "objective": "surprise", "unit": "grain"})
    if better(grains) == "higher":
        why = "of surprise more is better, and all laws here fall"
        assert f"No law is fitted: {why}." in text
        assert foreseen(planned, Study("heap", grains, [{}])) == f"no law will be fitted: {why}"
    else:
        assert "Validation surprise follows E + A / x^alpha over parameters from" in text
        assert "predicted surprise" in text
        assert foreseen(planned, Study("heap", grains, [{}])) == ""
    assert "does not" not in text  # more parameters are better in either direction


def test_what_gets_worse_with_size_is_said_in_its_direction(tmp_path, grains):
    higher = better(grains) == "higher"
    for width, loss in ((8, 2.0), (16, 1.0 if higher else 3.0)):
        record(override(grains, {"model.width": width}), tmp_path, loss)
    goes = "rise" if higher else "fall"
    text = text_of(report(tmp_path).read_text())
    assert f"The mean surprise does not {goes} from" in text


def test_the_best_learning_rate_is_the_best_in_its_direction(tmp_path, grains):
    """Curves about a known rate, turned over where more is better: the same best rate."""
    sign = -1 if better(grains) == "higher" else 1
    rng = np.random.default_rng(0)
    for width in (16, 32):
        for factor in (0.5, 0.71, 1.0, 1.41, 2.0):
            rate = 0.4 / width * factor
            off = np.log(factor)
            loss = 2 + sign * (0.05 * off**2 + rng.normal(0, 1e-4))
            change = {"model.width": width, "optim.peak_lr": rate}
            record(override(grains, change), tmp_path, loss)
    plan = Study("rates", grains, [{}], x="optim.peak_lr", group="model.width")
    page = report(tmp_path, study=plan)
    stored = json.loads((page.parent / "optimum.json").read_text())
    assert stored["better"] == better(grains)
    for found, width in zip(stored["optima"], (16, 32), strict=True):
        assert found["rate"] == pytest.approx(0.4 / width, rel=0.02)
        assert found["loss"] == pytest.approx(2, abs=1e-3)
        assert found["low"] < found["rate"] < found["high"]
    text, word = text_of(page.read_text()), "maximum" if sign < 0 else "minimum"
    other = "minimum" if sign < 0 else "maximum"
    assert f"is the {word} of a curve" in text
    assert other not in text
    assert "twice or half costs (bits/grain)" in text
    away = "below" if sign < 0 else "above"
    drawn = pd.read_csv(page.parent / "figures" / "best-optim-peak-lr.csv")
    assert (drawn[f"{away}_percent"] >= -0.1).all()
    assert any(f"surprise {away} the curve's {word}" in t
               for t in axis_texts(page.parent, "best-optim-peak-lr"))  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("grains", ["lower"], indirect=True)
def test_the_page_of_a_law_speaks_of_them_too(heap, grains, tmp_path):
    report(heap, out=heap)
    law = fit_command(FitRequest(workdir=str(heap), bootstrap=50))
    folder = tmp_path / "law"
    law_figures.write(law, folder)
    written = everything(folder)
    assert "nats" not in written
    assert "token" not in written
    (residuals,) = folder.rglob("law-residuals.svg")
    assert "predicted surprise (bits/grain), better to the right" in residuals.read_text()


# ---- several of them in one report


@pytest.mark.slow
def test_runs_of_two_units_are_said_and_shown_apart(heap, grains, base):
    for width in (32, 64):
        record(override(base, {"model.width": width}), heap, loss=2.0 + 1 / width)
    page = report(heap)
    written, text = page.read_text(), text_of(page.read_text())
    links = Links()
    links.feed(written)
    assert links.open == []
    assert len(links.ids) == len(set(links.ids))
    assert (
        "THESE RUNS MEASURE 2 DIFFERENT THINGS (next_token of tokens, surprise of grains)" in text
    )
    assert "DIFFERENT CORPORA" not in text
    for part in (
        "next_token of tokens: loss (nats/token)",
        "surprise of grains: surprise (bits/grain)",
    ):
        assert part in text
    assert "training tokens" in text
    assert "training grains" in text
    names = {path.stem for path in (page.parent / "figures").iterdir()}
    assert {"next-token-tokens-loss-params", "surprise-grains-loss-params"} <= names
    of_grains = axis_texts(page.parent, "surprise-grains-loss-params")
    assert "validation surprise (bits/grain)" in of_grains
    (first, second) = re.findall(r'<table class="runs">.*?</table>', written, flags=re.DOTALL)
    assert "tokens" in first
    assert "grain" not in first
    assert "grains" in second
    assert "token" not in second
