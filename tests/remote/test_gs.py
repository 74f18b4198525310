"""A workdir on gs://: the real gcsfs and the real tensorstore, against an object store on a
loopback port that cannot append, rename or lock (`object_store.py`).

What it shows: nothing takes the workdir for a local folder, and a run that is killed goes on to
what it would have been. What it does not: Google's rate limits, errors and permissions.
"""

import io
import os
import pathlib
import subprocess
import sys
import time

import pandas as pd
import pytest
from object_store import Store, serve

from scaling.records import RunDirectory, find_runs
from scaling.records.tables import table

REPOSITORY = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.exhaustive


@pytest.fixture(scope="module")
def store():
    """The store, and the environment of a process that finds it."""
    server, store = serve()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    yield (
        store,
        {
            "STORAGE_EMULATOR_HOST": url,  # gcsfs
            "FSSPEC_GCS_TOKEN": "anon",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "TENSORSTORE_GCS_HTTP_URL": url,  # tensorstore, in orbax
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
            "GOOGLE_CLOUD_PROJECT": "p",
            "JAX_PLATFORMS": "cpu",
        },
    )
    server.shutdown()
    server.server_close()


def launch(cwd: pathlib.Path, env: dict[str, str], *flags: str) -> subprocess.Popen:
    """A command of the launcher, in a directory of its own."""
    cwd.mkdir(exist_ok=True)
    path = f"{REPOSITORY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "launch.py"), *flags],
        cwd=cwd,
        env=os.environ | env | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def said(process: subprocess.Popen) -> str:
    """What it printed; it must have ended well."""
    text = process.communicate(timeout=240)[0]
    assert process.returncode == 0, text
    return text


def names(store: Store, part: str) -> list[str]:
    """Names of objects that contain a text."""
    return [name for _, name in list(store.objects) if part in name]


def test_a_run_that_is_killed_on_an_object_store_goes_on_to_the_same_numbers(
    store, tmp_path, tiny_fields, monkeypatch
):
    objects, env = store
    fields = tiny_fields | {"train.steps": 3000, "train.checkpoint_every": 100}
    fields |= {"evals.every": 1000, "train.log_every": 50}
    config = [f"--config={REPOSITORY}/configs/lm.py"]
    config += [f"--config.{name}={value}" for name, value in fields.items()]
    alone = said(launch(tmp_path / "local", env, "train", *config, f"--workdir={tmp_path}/out"))
    assert "done at step 3000" in alone

    gone = launch(tmp_path / "remote", env, "train", *config, "--workdir=gs://bucket/study")
    until = time.monotonic() + 200
    while not names(objects, "/checkpoints/100/_CHECKPOINT_METADATA"):
        assert gone.poll() is None, gone.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.05)
    gone.kill()
    gone.communicate()
    text = said(launch(tmp_path / "remote", env, "train", *config, "--workdir=gs://bucket/study"))
    assert "done at step 3000: gs://bucket/study/runs/" in text

    for name, value in env.items():
        monkeypatch.setenv(name, value)
    (local,) = table(f"{tmp_path}/out").to_dict("records")
    (remote,) = table("gs://bucket/study").to_dict("records")
    assert remote["loss"] == local["loss"]
    plain = [
        [{k: v for k, v in line.items() if not k.startswith("time/")} for line in run.metrics()]
        for run in (
            RunDirectory(f"{tmp_path}/out/runs/{local['name']}"),
            RunDirectory(f"gs://bucket/study/runs/{local['name']}"),
        )
    ]
    assert plain[0] == plain[1]
    assert names(objects, "/tensorboard/events.out.tfevents")
    assert not names(objects, "orbax-checkpoint-tmp")
    # Nothing took gs:// for a folder.
    assert not list(tmp_path.rglob("gs:*"))
    assert not list((tmp_path / "remote").iterdir())


def test_two_sweeps_at_once_their_status_and_their_report_on_an_object_store(
    store, tmp_path, monkeypatch
):
    objects, env = store
    flags = (
        f"--experiment={REPOSITORY}/experiments/width.py:debug",
        "--workdir=gs://bucket/width",
    )
    both = [launch(tmp_path / n, env, "sweep", *flags, "--workers=1") for n in ("here", "there")]
    for sweep in both:
        assert "report: gs://bucket/width/report/width/index.html" in said(sweep)
    text = said(launch(tmp_path / "here", env, "status", *flags))
    assert "5 runs: 5 done" in text
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    rows = table("gs://bucket/width")
    assert list(rows["status"]) == ["done"] * 5
    for run in find_runs("gs://bucket/width"):
        lines = [(line["step"], line["split"]) for line in run.metrics()]
        assert len(lines) == len(set(lines)), "two processes trained one run"
        assert len(run.starts()) == 1
    (file,) = names(objects, "width/report/width/table.csv")
    stored = pd.read_csv(io.BytesIO(objects.objects["bucket", file][0]))
    assert list(stored["loss"]) == pytest.approx(list(rows["loss"]))
    assert not list(tmp_path.rglob("gs:*"))
