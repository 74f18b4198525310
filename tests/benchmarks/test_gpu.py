"""The benchmark of one accelerator runs in its debug form; its models are what they are called."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks.gpu import config_of, line, measure, rates
from scaling.costs import sizes

REPOSITORY = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "params", "active"),
    [
        ("124m", 124e6, 124e6),
        ("350m", 354e6, 354e6),
        ("1.3b", 1311e6, 1311e6),
        ("moe", 521e6, 181e6),
    ],
)
def test_the_models_have_the_parameters_of_their_names(name, params, active):
    size = sizes.size(config_of(name, debug=False, batch=None, changes=[]))
    assert abs(size.params / params - 1) < 0.01
    assert abs(size.params_active / active - 1) < 0.01


def test_changes_reach_the_config():
    changes = ["model.remat=full", "objective.chunk=64", "optim.offload=true", "model.window=None"]
    config = config_of("124m", debug=True, batch=6, changes=changes)
    assert (config.model.remat, config.objective.chunk, config.optim.offload) == ("full", 64, True)
    assert config.model.window is None
    assert config.train.batch_size == 6


@pytest.mark.slow
def test_a_row_holds_rates_memory_and_a_loss():
    config = config_of("124m", debug=True, batch=None, changes=[])
    row = measure("124m", config, rounds=1, steps=1)
    assert row["tokens_per_s"] == pytest.approx(2 * 64 / row["step_s"])
    flops = sizes.conventions(config)["matmul"]
    assert row["mfu"] == pytest.approx(row["tokens_per_s"] * flops / row["peak_flops"])
    assert row["bytes_planned"] > 3 * 4 * row["params"]  # parameters and two moments
    assert row["losses"][0] == pytest.approx(6.24, abs=1)  # log 512
    assert "124m" in line(row)


def test_a_call_counts_all_its_updates():
    one, four = (
        config_of("124m", debug=True, batch=None, changes=[f"train.steps_per_call={k}"])
        for k in (1, 4)
    )
    assert rates(four, [4.0, 2.0, 8.0], peak=1e9) == rates(one, [1.0, 0.5, 2.0], peak=1e9)
    assert rates(four, [4.0], peak=None)["tokens_per_s"] == 2 * 64


@pytest.mark.exhaustive
def test_the_command_prints_a_line_a_model(tmp_path):
    """As a user runs it: a process a model, with XLA's optimizations, which the tests leave out."""
    out = tmp_path / "gpu.json"
    command = [sys.executable, "benchmarks/gpu.py", "--debug", f"--json={out}", "--models=124m,moe"]
    environment = {k: v for k, v in os.environ.items() if k != "JAX_DISABLE_MOST_OPTIMIZATIONS"}
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(out.read_text())
    assert [row["model"] for row in record["rows"]] == ["124m", "moe"]
    assert len(done.stdout.splitlines()) == 3
    done = subprocess.run(
        [*command[:3], "--models=124m", "--set=model.width=33"],
        **{"cwd": REPOSITORY, "capture_output": True, "text": True, "env": environment},
    )
    assert done.returncode == 1
    assert "model.width=33 is not divisible by model.heads=2" in done.stdout
