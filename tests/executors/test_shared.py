"""Several sweeps at once on one workdir, as several people start them: real processes."""

import json
import pathlib
import subprocess
import sys

import pytest

from scaling.config import to_dict
from scaling.errors import BusyError
from scaling.records import RunDirectory, notes, shelf
from scaling.records.tables import table

REPOSITORY = pathlib.Path(__file__).parents[2]
# A sweep of the runs in a file, in one process, which then tags the first run many times.
SWEEP = """
import json, sys
from scaling.config import from_dict
from scaling.executors.jobs import each
from scaling.executors.local import run_local
from scaling.records import RunDirectory, notes
configs = [from_dict(values) for values in json.load(open(sys.argv[1]))]
print("ready", flush=True)
sys.stdin.readline()
results = run_local(each(configs), sys.argv[2], workers=1)
for number in range(300):
    notes.write(RunDirectory.open(configs[0], sys.argv[2]), add=[f"{sys.argv[3]}-{number}"])
print(json.dumps([(result.status, result.reason) for result in results]))
"""


@pytest.mark.slow
def test_two_sweeps_of_the_same_runs_train_each_once(tiny, tmp_path):
    configs = [tiny({"seed": seed, "train.steps": 40, "evals.every": 40}) for seed in range(2)]
    listed = tmp_path / "configs.json"
    listed.write_text(json.dumps([to_dict(config) for config in configs]))
    sweeps = [
        subprocess.Popen(
            [sys.executable, "-c", SWEEP, str(listed), str(tmp_path), name],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for sweep in sweeps:
        assert sweep.stdout.readline() == "ready\n"
    said = [sweep.communicate("go\n", timeout=120)[0] for sweep in sweeps]
    for text in said:
        assert json.loads(text.splitlines()[-1]) == [["done", None]] * 2
    for config in configs:
        run = RunDirectory.open(config, tmp_path)
        lines = [(line["step"], line["split"]) for line in run.metrics()]
        assert len(lines) == len(set(lines))  # no step was written twice
        assert [step for step, split in lines if split == "train"] == list(range(1, 41))
        assert len(run.starts()) == 1
        assert run.attempts() == []  # who waits for a run has not failed
    assert len(notes.read(RunDirectory.open(configs[0], tmp_path)).tags) == 600, "some were lost"
    assert set(table(tmp_path)["status"]) == {"done"}


def test_a_run_that_another_process_trains_is_not_moved_and_it_says_whose_it_is(tmp_path):
    code = (
        "import sys, time; from scaling.records import RunDirectory\n"
        "with RunDirectory(sys.argv[1]).lock(): print('held', flush=True); time.sleep(60)"
    )
    run = RunDirectory(tmp_path / "runs" / "one")
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(run.path)], stdout=subprocess.PIPE, cwd=REPOSITORY
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match=rf"in use by process {holder.pid} on \S+; wait"):
            shelf.move(run, "trash")
    finally:
        holder.kill()
        holder.communicate()
    assert shelf.move(run, "trash").path.parent.name == "trash"
