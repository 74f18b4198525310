"""SIGKILL at any moment, then the same command: the run is the uninterrupted one, bit for bit."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from reading import final_state, lines

from scaling.config import to_dict
from scaling.records import RunDirectory
from scaling.train.loop import train

REPOSITORY = pathlib.Path(__file__).parents[2]
# Trains the run in a directory's config.json on one device, as `launch.py train` does.
SCRIPT = """
import json, sys
import jax
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
from scaling.config import from_dict
from scaling.train.loop import train
train(from_dict(json.loads(sys.argv[1])), sys.argv[2], devices=jax.devices()[:1], quiet=True)
"""


def start(config, workdir) -> subprocess.Popen:
    """A process that trains the run."""
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            SCRIPT,
            json.dumps(to_dict(config)),
            str(workdir),
        ],
        cwd=REPOSITORY,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "8"},
    )


def kill_when(process: subprocess.Popen, condition) -> bool:
    """SIGKILL as soon as `condition()` holds; False if the process ended before."""
    while process.poll() is None:
        if condition():
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.0005)
    return False


@pytest.mark.slow
def test_killed_anywhere_and_started_again_is_the_uninterrupted_run(tiny, tmp_path):
    config = tiny({"train.steps": 60, "train.checkpoint_every": 3, "evals.every": 7})
    train(config, tmp_path / "whole", devices=jax.devices()[:1], quiet=True)
    whole = RunDirectory.open(config, tmp_path / "whole")
    cut = RunDirectory.open(config, tmp_path / "cut")
    metrics, checkpoints = cut.path / "metrics.jsonl", pathlib.Path(cut.path / "checkpoints")

    def logged(step: int):
        return lambda: metrics.exists() and metrics.read_text().count("\n") >= step

    def saving() -> bool:
        return any(checkpoints.glob("*.orbax-checkpoint-tmp*"))

    # Between saves, and in the middle of one: its temporary folder is there at the kill.
    assert kill_when(start(config, tmp_path / "cut"), logged(10))
    for _ in range(5):
        assert kill_when(start(config, tmp_path / "cut"), saving), "the run ended too early"
        if saving():  # it may have ended between the look and the kill
            break
    assert saving(), "no kill fell into a save"
    process = start(config, tmp_path / "cut")
    assert process.wait() == 0

    assert lines(cut) == lines(whole)
    steps = [line["step"] for line in lines(cut) if line["split"] == "train"]
    assert steps == list(range(1, 61))
    assert cut.is_done
    assert not saving()

    for ours, theirs in zip(final_state(cut), final_state(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)
