"""What a person reads of one run: its last word is the validation loss."""

import time
from typing import Any

import jax
import pytest

from scaling.config import MeshConfig
from scaling.devices import meshes
from scaling.records import RunDirectory
from scaling.train.compilation import Compiled
from scaling.train.loop import train
from scaling.train.meter import Meter
from scaling.train.packed import train_packed


def validation(config, workdir) -> float:
    return RunDirectory.open(config, workdir).latest(["val"])["val"]["loss"]


@pytest.mark.slow
def test_a_finished_run_ends_with_its_validation_loss(tiny, tmp_path, capsys):
    config = tiny()
    assert train(config, tmp_path).status == "done"
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"done at step 12, validation loss {validation(config, tmp_path):.4f}")
    trained = RunDirectory.open(config, tmp_path).latest(["train"])["train"]["loss"]
    assert trained != pytest.approx(validation(config, tmp_path), abs=1e-4)


@pytest.mark.slow
def test_so_does_every_member_of_a_group(tiny, tmp_path, capsys):
    configs = [tiny({"seed": seed}) for seed in (0, 1)]
    train_packed(configs, tmp_path)
    said = capsys.readouterr().err
    for config in configs:
        name = RunDirectory.open(config, tmp_path).path.name
        loss = validation(config, tmp_path)
        assert f"done at step 12, validation loss {loss:.4f}: {name}" in said


def test_an_evaluation_of_one_member_counts_as_that_of_a_share_of_the_group(tiny):
    """Two members: it took 4 s for the one that had come to it, and would take 8 s for both."""
    mesh = meshes.make_mesh(MeshConfig(), jax.devices()[:1])
    meter = Meter(tiny(), mesh, time.monotonic() - 100.0, members=2)
    nothing: Any = None
    program = Compiled(nothing, seconds=3.0)
    meter.compiled(program)
    meter.stepped(10, 5.0)
    meter.evaluated(8.0)
    meter.waited(4.0)
    cost = meter.cost()
    assert cost is not None
    assert (cost.step_s, cost.eval_s) == (0.5, 8.0)
    # All that was neither training nor evaluation nor compilation, and the time since.
    assert cost.other_s >= 100.0 - 5.0 - 4.0 - 3.0
    assert cost.other_s < 100.0
