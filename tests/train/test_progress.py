"""What a person reads of one run: its last word is the validation loss."""

import pytest

from scaling.records import RunDirectory
from scaling.train.loop import train
from scaling.train.packed import train_packed


def validation(config, workdir) -> float:
    return RunDirectory.open(config, workdir).latest(["val"])["val"]["loss"]


def test_a_finished_run_ends_with_its_validation_loss(tiny, tmp_path, capsys):
    config = tiny()
    assert train(config, tmp_path).status == "done"
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"done at step 12, validation loss {validation(config, tmp_path):.4f}")
    trained = RunDirectory.open(config, tmp_path).latest(["train"])["train"]["loss"]
    assert trained != pytest.approx(validation(config, tmp_path), abs=1e-4)


def test_so_does_every_member_of_a_group(tiny, tmp_path, capsys):
    configs = [tiny({"seed": seed}) for seed in (0, 1)]
    train_packed(configs, tmp_path)
    said = capsys.readouterr().err
    for config in configs:
        name = RunDirectory.open(config, tmp_path).path.name
        loss = validation(config, tmp_path)
        assert f"done at step 12, validation loss {loss:.4f}: {name}" in said
