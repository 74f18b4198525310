"""Every figure is drawn from what a fit command made, with the numbers that are in it."""

import pathlib

import numpy as np
import pandas as pd
import pytest
from matplotlib.contour import ContourSet

from scaling.errors import UserError
from scaling.laws import Options, fit
from scaling.laws.fit_command import fit_command
from scaling.laws.isoflop import isoflop
from scaling.laws.selection import sensitivity
from scaling.laws.valleys import porian_noise
from scaling.report import laws
from tests.laws.conftest import fit_request
from tests.laws.test_command import CHINCHILLA


@pytest.mark.slow
def test_all_figures_of_a_fit(tmp_path: pathlib.Path) -> None:
    made = fit_command(fit_request(**CHINCHILLA, bootstrap=60, approaches=True))
    paths = laws.write(made, tmp_path)
    names = {p.name.removesuffix(".png") for p in paths if p.suffix == ".png"}
    assert names == {
        "law-residuals", "law-cloud", "law-contours", "law-valleys-params", "law-envelope",
    }  # fmt: skip
    assert all((tmp_path / f"{n}.svg").stat().st_size > 2000 for n in names)
    page = (tmp_path / "index.html").read_text()
    assert page.count("<svg") == len(names)
    assert "chinchilla" in page
    assert "src=" not in page
    residual = pd.read_csv(tmp_path / "law-residuals.csv")
    found, table = made.fits[""], made.tables[""]
    expected = table.loss.to_numpy() / found.draws(table)[0] - 1
    np.testing.assert_allclose(residual.residual, expected)


def test_contours_fill_the_axes(chinchilla_240: pd.DataFrame) -> None:
    drawn = laws.contours(fit(chinchilla_240, "chinchilla", Options(bootstrap=20)), chinchilla_240)
    axes = drawn.figure.axes[0]
    (lines,) = (c for c in axes.collections if isinstance(c, ContourSet))
    ends = np.concatenate([path.vertices for path in lines.get_paths() if len(path.vertices)])
    assert ends[:, 0].max() == pytest.approx(axes.get_xlim()[1])
    assert ends[:, 1].max() == pytest.approx(axes.get_ylim()[1])
    # A label hides no more of its line than it needs: no gap is a tenth of the axes wide.
    for path in lines.get_paths():
        across = axes.transAxes.inverted().transform(axes.transData.transform(path.vertices))
        assert np.linalg.norm(np.diff(across, axis=0), axis=1).max() < 0.1


def test_refused_minima_are_in_the_figure(isoflop_runs: pd.DataFrame) -> None:
    rows = isoflop_runs.query("warmup == 'long' and param_count == 'standard'")
    drawn = laws.valleys(isoflop(rows, quantity="n", noise=porian_noise))
    refused = drawn.data[drawn.data.refused != ""]
    assert refused.flops.nunique() == 2


def test_choices_show_the_exponent(chinchilla_240: pd.DataFrame) -> None:
    table = sensitivity(chinchilla_240, floors=(), drop_largest=(), drop_smallest_sizes=())
    drawn = laws.choices(table)
    assert drawn.data.equals(table)
    assert drawn.figure.axes[0].get_xlabel() == "optimal params exponent"


def test_no_cloud_without_draws(chinchilla_240: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="two fitted parameters and draws"):
        laws.cloud(fit(chinchilla_240, "chinchilla", Options(bootstrap=0)))
