"""Samples are judged by what another run's model sees in them; the table and a picture show it."""

import io
from typing import Any

import jax
import numpy as np
import pytest
from matplotlib import image as matplotlib_image

from configs import gan, vision
from scaling.commands.sampling import judge_all
from scaling.config import RunConfig, from_dict, override
from scaling.errors import CheckpointError, UserError
from scaling.metrics.moments import Gaussian, frechet_distance
from scaling.records import RunDirectory, find_runs
from scaling.records.tables import about, table
from scaling.report.pictures import rows_of_images
from scaling.studies import study
from scaling.train import samples
from scaling.train.loop import train

# Minutes of compilation on two cores: a GAN has two networks, each forward and backward.
pytestmark = pytest.mark.exhaustive

LENGTH = {"train.epochs": None, "train.steps": 3, "evals.batches": 3}


def run_of(config: Any, workdir: Any, overrides: dict[str, Any]) -> RunDirectory:
    resolved: RunConfig = study.resolve(override(from_dict(config), LENGTH | overrides))
    assert train(resolved, workdir, devices=jax.devices()[:1], quiet=True).status == "done"
    return RunDirectory.open(resolved, workdir)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, RunDirectory, RunDirectory]:
    """A workdir, a run that makes samples, its judge."""
    workdir = tmp_path_factory.mktemp("judged")
    fields = {"model.width": 4, "model.conditional": True}
    maker = run_of(gan.get_config("debug"), workdir, fields)
    return workdir, maker, run_of(vision.get_config("debug"), workdir, {})


def test_a_workdir_is_judged_and_its_table_says_so(trained, capsys):
    workdir, maker, judge = trained
    assert "sample_distance" not in table(workdir)
    judge_all(workdir, picture=str(workdir / "samples.png"))
    assert capsys.readouterr().out.startswith(f"{maker.path.name}: distance ")
    record = maker.samples()
    assert (record["judge"], record["step"], record["examples"]) == (judge.path.name, 3, 48)
    # What the model has not learned, real images have.
    assert 0 < record["real"] < min(record["trained"], record["untrained"])
    rows = table(workdir).set_index("name")
    assert rows.loc[maker.path.name, "sample_distance"] == record["trained"]
    assert np.isnan(rows.loc[judge.path.name, "sample_distance"])
    assert "sample_distance_real" in about(rows)["conventions"]
    shown = matplotlib_image.imread(io.BytesIO((workdir / "samples.png").read_bytes()), "png")
    assert np.std(shown[..., :3]) > 0.1


def test_what_lies_between_two_latents(trained, tmp_path):
    workdir, maker, _ = trained
    model = samples.Model(maker)
    found = samples.between(model, images=5)
    assert [*found] == [f"class {label}" for label in range(10)]
    steps = [np.abs(np.diff(x, axis=0)).max(axis=(1, 2, 3)) for x in found.values()]
    assert np.min(steps) > 0
    assert np.max(steps) < np.abs(found["class 0"][-1] - found["class 0"][0]).max()
    again = samples.between(model, images=3)
    # Every second one, of the same ends.
    np.testing.assert_allclose(again["class 7"], found["class 7"][::2], rtol=1e-4, atol=1e-5)
    judge_all(workdir, interpolation=str(tmp_path / "between.png"))
    shown = matplotlib_image.imread(io.BytesIO((tmp_path / "between.png").read_bytes()), "png")
    assert shown.shape[0] > 0.5 * shown.shape[1]  # eleven rows
    assert 0 <= maker.samples()["right"] <= 1


def test_distances_are_of_the_features(trained):
    _, maker, by = trained
    judge = samples.Model(by)
    found, images = samples.judge(maker, judge)

    def gaussian(x: np.ndarray) -> Gaussian:
        features = judge.output("features", judge.params, {"image": x}).astype(np.float64)
        return Gaussian(features.mean(axis=0), np.cov(features.T))

    far = frechet_distance(gaussian(images.trained), gaussian(images.real))
    assert found.trained == pytest.approx(far, rel=1e-9)
    again, other = (samples.judge(maker, judge, seed)[1].trained for seed in (0, 1))
    np.testing.assert_array_equal(again, images.trained)
    assert not np.any(np.all(other == again, axis=(1, 2, 3)))


def test_many_rows_are_computed_in_pieces(trained, monkeypatch):
    model = samples.Model(trained[1])
    asked = {"key": jax.random.split(jax.random.key(0), 7), "label": np.arange(7, dtype=np.int32)}
    whole = model.output("sample", model.params, asked)
    monkeypatch.setattr(samples, "_ROWS", 3)
    pieces = model.output("sample", model.params, asked)
    np.testing.assert_allclose(pieces, whole, rtol=1e-5, atol=1e-6)  # batches of another size


def test_what_cannot_be_judged_is_refused(trained, tmp_path):
    workdir, maker, by = trained
    with pytest.raises(UserError, match=r"makes no samples"):
        samples.judge(by, samples.Model(by))
    with pytest.raises(UserError, match=r"no finished run of .* makes samples"):
        judge_all(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / maker.path.name).symlink_to(maker.path)
    with pytest.raises(UserError, match=r"has 0 finished runs that could judge"):
        judge_all(tmp_path)
    empty = RunDirectory(tmp_path / "empty")
    empty.path.mkdir()
    (empty.path / "config.json").write_bytes((maker.path / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match="has no checkpoint yet"):
        samples.Model(empty)
    assert len(find_runs(workdir)) == 2


def test_a_picture_has_the_contrast_of_its_first_row():
    first = np.linspace(-1, 3, 4 * 8 * 8).reshape(4, 8, 8, 1)
    colour = np.zeros((4, 8, 8, 3))
    bytes_of = rows_of_images({"data": first, "made": first * 100, "colour": colour})
    shown = matplotlib_image.imread(io.BytesIO(bytes_of), "png")
    assert shown.shape[1] > 1.5 * shown.shape[0]
    assert rows_of_images({"data": first}) == rows_of_images({"data": first})
