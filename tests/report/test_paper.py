"""What a report writes for a paper: figures of a column's width, tables with intervals."""

import re

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from scaling.errors import UserError
from scaling.records.tables import table
from scaling.report import looks, report
from scaling.report.figures import loss_figure
from scaling.report.paper import Paper


@pytest.fixture(scope="module")
def written(width_study, tmp_path_factory):
    workdir, _ = width_study
    out = tmp_path_factory.mktemp("paper")
    paper = Paper(("pdf", "png"), looks.paper("one"), tables=True)
    report(workdir, out, paper=paper, holdout=False)  # fits are tested elsewhere
    return out


def inches(png):
    with Image.open(png) as image:
        return image.width / 160


@pytest.mark.slow
def test_figures_are_as_wide_as_a_column_and_those_of_the_page_are_not(written):
    for png in (written / "figures").glob("*.png"):
        page, paper = (inches(p) for p in (png, png.parent / "paper" / png.name))
        assert abs(paper - looks.COLUMNS["one"]) < 0.02
        assert abs(page - looks.SCREEN.width) < 0.02


@pytest.mark.slow
def test_a_pdf_has_its_fonts_and_the_command_that_made_it(written):
    pdf = (written / "figures" / "paper" / "loss-params.pdf").read_bytes()
    assert b"/FontFile2" in pdf  # TrueType: text, not outlines
    assert b"/Type3" not in pdf
    assert looks.made_by().split()[0].encode() in pdf


def test_a_style_file_wins(width_study, tmp_path):
    sheet = tmp_path / "own.mplstyle"
    sheet.write_text("figure.figsize: 2, 2\nfont.size: 5\naxes.labelsize: 5\n")
    look = looks.paper("two", str(sheet))
    assert look.width == 2
    with looks.drawn_for(look):
        drawn = loss_figure(table(width_study[0]), "params")
    figures = Paper(("png",), look).save([drawn], tmp_path)
    assert inches(figures[0]) == 2


@pytest.mark.slow
def test_the_table_of_points_has_means_over_seeds_and_their_interval(written, width_study):
    rows = table(width_study[0])
    rows = rows[rows["status"] == "done"]
    lines = (written / "tables" / "points.md").read_text().splitlines()
    head = [cell.strip() for cell in lines[0].strip("|").split("|")]
    first = dict(zip(head, (c.strip() for c in lines[2].strip("|").split("|")), strict=True))
    smallest = rows[rows["params"] == rows["params"].min()]["loss"]
    assert first["runs"] == str(len(smallest)) != "1"
    [name] = [cell for cell in head if cell.startswith("loss")]
    mean, half = (float(x) for x in first[name].split(" ± "))
    expected = stats.t.ppf(0.95, len(smallest) - 1) * smallest.std() / np.sqrt(len(smallest))
    assert mean == pytest.approx(smallest.mean(), rel=1e-3)
    assert half == pytest.approx(expected, rel=0.05)  # it is rounded to two digits


@pytest.mark.slow
def test_both_kinds_of_a_table_have_the_same_cells(written):
    for path in (written / "tables").glob("*.md"):
        rows = [line for line in path.read_text().splitlines() if line.startswith("|")]
        cells = [[c.strip() for c in row.strip("|").split("|")] for row in (rows[0], *rows[2:])]
        tex = path.with_suffix(".tex").read_text()
        body = re.findall(r"^(.*?) \\\\$", tex, re.MULTILINE)
        plain = [line.replace(r"\ensuremath{\pm}", "±").replace(r"\%", "%") for line in body]
        assert [[c.strip() for c in line.split(" & ")] for line in plain] == cells


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("tow",), "--column=tow"),
        (("0.2",), "inches"),
        (("one", "no.mplstyle"), "--style=no.mplstyle"),
    ],
)
def test_what_is_no_width_or_style_is_named(arguments, named):
    with pytest.raises(UserError, match=re.escape(named)):
        looks.paper(*arguments)
