"""`import scaling`: the code of docs/library.md runs as it stands; importing brings nothing."""

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import scaling
from scaling.errors import UserError
from tests.written import finished, resolved, size

REPOSITORY = pathlib.Path(__file__).parents[1]


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The current folder of the page: runs in out/debug, and the tables that it names."""
    for width, noise in ((8, 1.001), (16, 1.0), (24, 0.999), (32, 1.0)):
        config = resolved(model__width=width, model__heads=2)
        loss = 20 * size(config)["params"] ** -0.15 * noise
        finished(config, tmp_path / "out" / "debug", loss)
    os.symlink(REPOSITORY / "tests", tmp_path / "tests")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_code_of_the_page_runs(page, capsys):
    text = (REPOSITORY / "docs" / "library.md").read_text()
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "library.md", "exec"), names)
    said = capsys.readouterr().out
    assert "alpha" in said
    assert len(names["frame"]) == 3  # of four, by `where`
    assert (page / "contours.pdf").read_bytes().startswith(b"%PDF")
    low, high = names["low"], names["high"]
    assert 0 < low < high < 1


def test_a_law_of_one_column_predicts_what_it_is(page):
    frame = scaling.runs("out/debug")
    law = scaling.fit(frame, "power", x="params", bootstrap=20)
    params = np.array([1e5, 1e6])
    found = scaling.predict(law, params=params)
    np.testing.assert_allclose(found["loss"], law.draws(params)[0], rtol=1e-9)
    assert (found["low"] < found["loss"]).all()
    assert (found["loss"] < found["high"]).all()
    assert law.params["alpha"] == pytest.approx(0.15, abs=0.01)
    figure = scaling.draw(frame, law)
    assert figure.axes
    assert figure._repr_png_().startswith(b"\x89PNG")  # as a notebook asks for it
    folder = page / "fit"
    folder.mkdir()
    (folder / "fit.json").write_text(law.to_json())
    again = scaling.predict(folder, params=params)
    # fit.json keeps nine digits of a draw.
    np.testing.assert_allclose(again.to_numpy(float), found.to_numpy(float), rtol=1e-5)
    with pytest.raises(UserError, match="does not read tokens; it reads params"):
        scaling.predict(law, params=1e9, tokens=1e9)
    with pytest.raises(UserError, match="needs params"):
        scaling.predict(law)


def test_importing_brings_nothing():
    code = (
        "import sys, scaling; assert 'fit' in dir(scaling)\n"
        "heavy = {'jax', 'matplotlib', 'pandas', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import scaling.library; scaling.runs\n"
        "heavy = {'jax', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["published_law", "own_runs"])
def test_the_notebooks_run(name, tmp_path):
    for folder in ("configs", "experiments", "launch.py", "scaling", "tests"):
        os.symlink(REPOSITORY / folder, tmp_path / folder)
    path = REPOSITORY / "docs" / "notebooks" / f"{name}.py"
    env = os.environ | {"PYTHONPATH": str(REPOSITORY), "MPLBACKEND": "agg"}
    subprocess.run([sys.executable, path], cwd=tmp_path, env=env, check=True, capture_output=True)
    assert path.with_suffix(".ipynb").exists()
