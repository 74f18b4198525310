"""The real TPU compiler, without a TPU: run by `make test-tpu` in an environment that has it."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from scaling.check import target
from scaling.config import MeshConfig
from scaling.devices import meshes, slices

REPOSITORY = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.tpu

RUN = (
    *("--config=configs/lm.py:debug", "--config.model.vocab=256", "--config.model.dtype=bfloat16"),
    *("--config.model.scan_layers", "--config.train.batch_size=32", "--config.evals.batch_size=32"),
)


def check(*flags: str, out: pathlib.Path, code: int = 0) -> dict:
    """`launch.py check` of the tiny run, as JSON."""
    # The tests compile quickly and badly; the TPU compiler is not to.
    environment = {k: v for k, v in os.environ.items() if k != "JAX_DISABLE_MOST_OPTIMIZATIONS"}
    environment["SCALING_DATA_DIR"] = str(out)
    done = subprocess.run(
        [sys.executable, "launch.py", "check", *RUN, *flags, f"--json={out / 'check.json'}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads((out / "check.json").read_text())


def test_a_slice_of_eight(tmp_path):
    flags = ("--topology=v5e:2x4", "--config.mesh.fsdp=4", "--config.mesh.tensor=2")
    report = check(*flags, out=tmp_path)
    assert report["fits"] is True
    assert report["mesh"] == {"fsdp": 4, "tensor": 2}
    state = sum(row["bytes_per_device"] for row in report["sharding"])
    assert state <= report["memory"]["arguments"]
    assert report["bytes_limit"] == 15.75 * 2**30
    over = {tuple(row["axes"]) for row in report["collectives"]}
    assert {("fsdp",), ("tensor",)} <= over
    assert all(row["link_seconds"] > 0 for row in report["collectives"])
    times = report["seconds"]
    assert 0 < times["compute"] <= times["overlapped"] <= times["serial"]
    # Once more, from the cache of results.
    again = check(*flags, out=tmp_path)
    assert again.pop("cached") is True
    assert again == {k: v for k, v in report.items() if k != "cached"}


def test_two_slices_and_a_proposal_that_fits(tmp_path):
    """Gradients cross the network once a step; the limit is one byte too low for copies of all
    parameters on every device.
    """
    flags = ("--topology=v5e:2x2", "--slices=2", "--config.mesh.replica=2")
    flags = (*flags, "--config.model.width=128")
    report = check(*flags, out=tmp_path)
    gradients = 4 * report["params"]["total"]
    across = [row for row in report["collectives"] if row["axes"] == ["replica"]]
    # Each of the four devices of a slice sends its share, padded to whole tiles.
    assert gradients / 4 <= sum(row["bytes"] for row in across) < gradients / 2
    assert report["seconds"]["network"] > 0

    limit = report["bytes_needed"] - 1
    report = check(*flags, f"--hbm={limit}", out=tmp_path, code=1)
    assert report["cached"] is True
    assert report["fits"] is False
    proposal = report["proposal"]
    assert proposal["changes"] == {"mesh.data": 1, "mesh.fsdp": 4}
    assert proposal["report"]["fits"] is True
    assert proposal["report"]["bytes_needed"] <= limit


def test_a_pipeline_with_the_attention_kernel(tmp_path):
    """The kernel is mapped over stages, inside the groups whose gradients meet once a step."""
    flags = ("--topology=v5e:2x2", "--config.mesh.data=2", "--config.mesh.stage=2")
    flags = (*flags, "--config.data.seq_len=128")
    report = check(*flags, out=tmp_path)
    assert report["pipeline_overhead"] == 3 / 2
    own = sum(
        row["bytes_per_device"] for row in report["sharding"] if row["path"].startswith("params/")
    )
    over_data = sum(row["bytes"] for row in report["collectives"] if row["axes"] == ["data"])
    assert own <= over_data < 1.5 * own  # padded to whole tiles
    assert {"collective-permute"} <= {
        row["kind"] for row in report["collectives"] if row["axes"] == ["stage"]
    }


@pytest.mark.parametrize(
    ("topology", "mesh"),
    [
        ("v6e:4x4", MeshConfig(fsdp=8, tensor=2)),
        ("v6e:4x4", MeshConfig(data=2, trial=8)),
        ("v5p:4x4x4", MeshConfig(fsdp=32, tensor=2)),
        ("v5p:4x4x4", MeshConfig(fsdp=8, tensor=8)),
    ],
)
def test_an_axis_may_take_a_part_of_a_dimension(topology, mesh, monkeypatch):
    for name, value in target._ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    described = target.of_topology(slices.find(topology), 1)
    made = meshes.make_mesh(mesh, described.devices)
    assert set(made.devices.flat) == set(described.devices)
    assert {axis: n for axis, n in made.shape.items() if n > 1} == {
        axis: n for axis, n in vars(mesh).items() if n and n > 1
    }
