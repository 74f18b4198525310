"""jax's debugging switches in training: run eagerly, and look at every result."""

import traceback

import jax
import pytest

from scaling.models import blocks
from scaling.records import RunDirectory
from scaling.train.loop import train
from scaling.train.packed import train_packed
from tests.debug import faults

SHORT = {"train.steps": 2, "evals.every": None, "evals.batches": 1}


def losses(config, workdir):
    lines = RunDirectory.open(config, workdir).metrics()
    return [line["loss"] for line in lines if line["split"] == "train"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("form", ["alone", "packed"])
def test_a_run_without_jit_has_the_losses_of_one_with(tiny, tmp_path, form):
    config = tiny(SHORT)

    def run(workdir):
        if form == "packed":
            (outcome,) = train_packed([config], workdir, devices=jax.devices()[:1], quiet=True)
        else:
            outcome = train(config, workdir, devices=jax.devices()[:1], quiet=True)
        assert outcome.status == "done"
        return losses(config, workdir)

    compiled = run(tmp_path / "compiled")
    with jax.disable_jit():
        eager = run(tmp_path / "eager")
    # Rounding alone: the compiler adds up in another order.
    assert eager == pytest.approx(compiled, rel=1e-5)


@pytest.mark.slow
def test_debug_nans_stops_at_the_line(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "MLP", faults.LogOfZero)
    with jax.debug_nans(True), pytest.raises(FloatingPointError) as error:
        train(tiny(SHORT), tmp_path, devices=jax.devices()[:1], quiet=True)
    files = [frame.filename for frame in traceback.extract_tb(error.value.__traceback__)]
    assert faults.__file__ in files
    run = RunDirectory.open(tiny(SHORT), tmp_path)
    assert run.status()["state"] == "failed"
    assert "invalid value" in run.status()["reason"]


@pytest.mark.slow
def test_debug_nans_lets_a_healthy_run_through(tiny, tmp_path):
    with jax.debug_nans(True):
        assert train(tiny(SHORT), tmp_path, quiet=True).status == "done"
