"""In a pipe a sweep and a run are never silent for long, and say what a person wants to know."""

import itertools
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from scaling import heartbeat
from scaling.errors import UserError
from scaling.records import find_runs

REPOSITORY = pathlib.Path(__file__).parents[1]

STUDY = """
from configs import lm
from scaling.config import from_dict, override
from scaling.config.sweep import Study, grid

def get_study(arg=""):
    base = override(from_dict(lm.get_config()), {fields!r})
    return Study(name="endless", base=base, runs=grid({{"seed": (0, 1, 2)}}))
"""


@pytest.fixture
def started(tmp_path):
    """`started(*argv)`: a process of launch.py with a heartbeat a second, its stderr a pipe."""
    processes = []

    def start(*argv: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "launch.py", *argv, f"--workdir={tmp_path}/out"],
            cwd=REPOSITORY,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, heartbeat.ENV: "1"},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.slow
def test_a_sweep_in_a_pipe_says_what_runs_how_fast_and_how_long(started, tmp_path, tiny_fields):
    """Two runs of three train, endlessly, until enough was said of them."""
    fields = tiny_fields | {"train.steps": 10**6, "evals.every": None}
    study = tmp_path / "endless.py"
    study.write_text(STUDY.format(fields=fields))
    process = started("sweep", f"--experiment={study}", "--workers=2", "--pack=off", "--noreport")
    lines = iter(process.stderr.readline, "")
    # The first line comes before anything is prepared.
    assert next(lines) == f"preparing {study}\n"
    of_both = re.compile(
        r"0 of 3 runs ended; \S+-s\d-\w+ step (\d+)/1000000, \S+ steps/s; "
        r"\S+-s\d-\w+ step (\d+)/1000000, \S+ steps/s \(after .*, about .* left\)\n"
    )
    said, before = [], []
    for line in lines:
        said.append(line)
        if found := of_both.fullmatch(line):
            before.append(tuple(map(int, found.groups())))
            if len(before) == 3:
                break
    assert any("is starting, " in line for line in said)
    assert f"3 runs, 3 to do, in {tmp_path}/out\n" in said
    # Each line is of a later moment.
    assert all(sum(a) < sum(b) for a, b in itertools.pairwise(before))
    process.send_signal(signal.SIGTERM)
    process.stderr.read()
    assert process.wait() == 75
    assert len(find_runs(tmp_path / "out")) == 2


@pytest.mark.slow
def test_a_run_in_a_pipe_is_not_silent_between_lines_of_its_log(started, tiny_fields):
    """Its metrics come every ten million steps; the heartbeat says for how long it knows none."""
    fields = tiny_fields | {"train.steps": 10**7, "train.log_every": 10**7, "evals.every": None}
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    process = started("train", "--config=configs/lm.py", *flags)
    lines = iter(process.stderr.readline, "")
    assert next(lines) == "preparing configs/lm.py\n"
    starting, trains = False, set()
    while len(trains) < 3:
        line = next(lines)
        starting |= "starting (data, then compilation)" in line
        if "trains (its first metrics are still to come), " in line:
            trains.add(line)
    assert starting


def test_a_heartbeat_goes_on_until_it_is_closed(monkeypatch, capfd):
    monkeypatch.setenv(heartbeat.ENV, "0.01")
    said = ""
    with heartbeat.Heartbeat(lambda: "beat"):
        while "beat\nbeat\n" not in said:
            said += capfd.readouterr().err
    assert said.replace("beat\n", "") == ""
    capfd.readouterr()
    time.sleep(0.05)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf"])
def test_a_heartbeat_that_cannot_be_is_named(monkeypatch, text):
    monkeypatch.setenv(heartbeat.ENV, text)
    with pytest.raises(UserError, match=f"{heartbeat.ENV}={text} must be"):
        heartbeat.every()
