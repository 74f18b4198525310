"""Sweeps on a real Slurm of two virtual nodes: whatever happens to tasks, nodes and the scheduler,
the runs come out as undisturbed ones do, bit for bit."""

import subprocess

import pandas as pd
import pytest

from scaling import records
from scaling.config import DistributedConfig

from .conftest import Sweep

pytestmark = pytest.mark.slurm
LOCAL = ("--executor=local", "--workers=2")
# Long enough to be hit in the middle; saved often.
LONG = {"train.steps": 3000, "train.checkpoint_every": 100, "train.log_every": 100}


def slurm(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def table(workdir) -> pd.DataFrame:
    """All that is known of the runs, without wall-clock fields."""
    return records.table(workdir).drop(columns=["seconds"])


def metrics(sweep: Sweep, config) -> list[dict]:
    lines = sweep.run(config).metrics()
    return [{k: v for k, v in x.items() if not k.startswith("time/")} for x in lines]


def assert_same(sweep: Sweep, reference: Sweep) -> None:
    pd.testing.assert_frame_equal(table(sweep.workdir), table(reference.workdir), check_exact=True)
    for config in sweep.configs:
        assert metrics(sweep, config) == metrics(reference, config)


def test_two_nodes_train_one_run_together_beside_runs_of_one_node(sweep, tmp_path):
    """The mesh asks for two devices: two processes, one on each node, find each other."""
    one = sweep([{"mesh.fsdp": 2}, {"seed": 1}, {"seed": 2, "optim.peak_lr": 1e30}])
    text = one.train("--slurm_array_parallelism=1")
    both, single, _ = one.configs
    assert "3 runs" in text
    assert one.run(both).record()["provenance"]["device_count"] == 2
    assert one.run(both).config().distributed == DistributedConfig()
    assert one.run(single).record()["provenance"]["device_count"] == 1
