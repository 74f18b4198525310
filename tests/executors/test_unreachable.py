"""A dry run for an object store that nobody can reach: everything but what is done already."""

import os
import pathlib
import socket
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).parents[2]


@pytest.fixture
def refused():
    """The environment of a process whose object store refuses connections: a port that is bound,
    and that nobody listens at.
    """
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield os.environ | {
            "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{bound.getsockname()[1]}",
            "FSSPEC_GCS_TOKEN": "anon",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "GOOGLE_CLOUD_PROJECT": "p",
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(REPOSITORY),
        }


def dry_run(env, workdir, *flags: str) -> subprocess.CompletedProcess:
    study = f"--experiment={REPOSITORY}/experiments/width.py:debug"
    return subprocess.run(
        [
            *(sys.executable, str(REPOSITORY / "launch.py"), "sweep", "--dry_run", study),
            *(f"--workdir={workdir}", *flags),
        ],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.exhaustive
def test_a_dry_run_without_its_store_shows_all_but_what_is_done(refused, tmp_path):
    there, gone = dry_run(refused, tmp_path), dry_run(refused, "gs://bucket/width")
    assert gone.returncode == 0, gone.stderr
    assert "--workdir=gs://bucket/width cannot be reached" in gone.stdout
    assert "what is done already is not known" in gone.stdout
    assert "directories in gs://bucket/width/runs" in gone.stdout
    assert "Traceback" not in gone.stderr
    # Run by run the same, but for what is known of its state.
    rows = [line.split() for line in there.stdout.splitlines() if line.startswith("transformer-")]
    asked = [line.split() for line in gone.stdout.splitlines() if line.startswith("transformer-")]
    assert len(rows) >= 3
    assert {tuple(row[-2:]) for row in rows} == {("to", "do")}
    assert [[*row[:-2], "?"] for row in rows] == asked


@pytest.mark.exhaustive
def test_the_commands_of_pods_are_shown_too(refused):
    flags = ("--executor=gcloud", "--gcloud_tpu=v5litepod-4")
    done = dry_run(refused, "gs://bucket/width", *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "what is done already is not known" in done.stdout
    assert done.stdout.count("gs://bucket/width/jobs/run-") >= 3
