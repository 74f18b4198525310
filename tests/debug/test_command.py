"""`launch.py debug`, as a person types it."""

import pathlib
import subprocess
import sys

import jax
import pytest

from scaling.records import RunDirectory
from scaling.train.loop import train

REPOSITORY = pathlib.Path(__file__).parents[2]


def debug(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "launch.py", "debug", *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def diverged(tiny, tmp_path_factory) -> RunDirectory:
    """A run whose learning rate overflows, after a checkpoint."""
    fields = {"optim.peak_lr": 1e30, "optim.clip_norm": None, "optim.name": "sgd"}
    config = tiny(fields | {"train.checkpoint_every": 1})
    workdir = tmp_path_factory.mktemp("diverged")
    assert train(config, workdir, devices=jax.devices()[:1], quiet=True).status == "diverged"
    return RunDirectory.open(config, workdir)


@pytest.mark.slow
def test_the_command_of_a_diverged_run_names_the_fault(diverged):
    status = diverged.status()
    step = status["step"] + 1
    command = f"python launch.py debug {diverged.path} --step={step}"
    assert status["reason"].endswith(f"; look into it: {command}")
    done = debug(*command.split()[3:], "--only=final_norm")
    assert done.returncode == 1, done.stderr
    assert f"step {step}, batch 8x16" in done.stdout
    assert "the first " in done.stdout
    assert "final_norm.scale" in done.stdout
    assert "blocks.0.mlp.up.w" not in done.stdout.split("not finite in the end")[0]
    # What is looked into when no step is named is that step.
    assert debug(diverged.path, "--only=final_norm").stdout == done.stdout


def test_bad_input_is_one_line():
    config = "--config=configs/lm.py:debug"
    for arguments, said in {
        (): "debug: give exactly one of --config and --run",
        (config, "--step=0"): "--step=0",
        (config, "--config.model.widht=3"): "model.widht is no config field",
    }.items():
        done = debug(*arguments)
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
