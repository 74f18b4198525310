"""Jobs on pods, as far as no cloud is needed: names, files, command lines, refusals, and `work`.

What xpk and gcloud themselves make of the command lines is in test_xpk.py and test_gcloud.py.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from scaling.config import override
from scaling.devices.slices import find
from scaling.errors import RESUME_ME, ConfigError, UserError
from scaling.executors.admission import refuse
from scaling.executors.jobs import Ended, Job
from scaling.executors.pods import admission, desk, gcloud, shell, watching, xpk
from scaling.executors.result import Result
from scaling.records import RunDirectory
from scaling.records.tables import table

REPOSITORY = pathlib.Path(__file__).parents[2]


def test_a_name_follows_from_the_runs_and_suits_every_cloud(tiny):
    one, other = tiny(), tiny({"seed": 1})
    assert desk.name_of(Job((one, other))) == desk.name_of(Job((other, one)))
    assert desk.name_of(Job((one,))) != desk.name_of(Job((other,)))
    name = desk.name_of(Job((one,)))
    assert name.replace("-", "").isalnum()
    assert name == name.lower()
    assert len(name) <= 40 - len("-127")  # xpk's limit, and gcloud's number of a slice


def test_how_a_run_is_executed_does_not_change_its_name(tiny):
    assert desk.name_of(Job((tiny(),))) == desk.name_of(Job((tiny({"train.microbatches": 2}),)))


def test_a_job_and_its_end_come_back_as_they_were_written(tiny, tmp_path):
    job = Job((tiny(), tiny({"seed": 1})))
    path = desk.give(job, tmp_path)
    assert desk.take(path) == (job, tmp_path)
    assert desk.read_ended(job, tmp_path) is None
    done = [Result(config, "done") for config in job.configs]
    lost = [Result(config, "failed", "peer gone", "lost") for config in job.configs]
    full = [Result(config, "failed", "too big", "memory") for config in job.configs]
    desk.write_ended(path, 3, lost)
    desk.write_ended(path, 0, done)
    assert desk.read_ended(job, tmp_path) == tuple(done)
    # The process that failed by itself knows best.
    desk.write_ended(path, 2, full)
    assert desk.read_ended(job, tmp_path) == tuple(full)
    desk.give(job, tmp_path)  # another attempt
    assert desk.read_ended(job, tmp_path) is None


def test_a_job_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"--job=.*nothing.json cannot be read"):
        desk.take(tmp_path / "nothing.json")


# ---- command lines


def test_several_slices_are_nodes_of_one_request(tiny):
    job = Job((tiny(),))
    options = gcloud.GcloudOptions(tpu="v6e-8", slices=3)
    name = desk.name_of(job)
    assert gcloud.nodes(job, options) == [f"{name}-0", f"{name}-1", f"{name}-2"]
    line = gcloud.create(job, options)
    assert {"--node-count=3", f"--node-prefix={name}"} <= set(line)
    assert not any(part.startswith("--node-id") for part in line)


def test_a_shape_that_the_accelerator_type_does_not_mean_is_named(tiny):
    line = gcloud.create(Job((tiny(),)), gcloud.GcloudOptions(tpu="v5p:4x4x24"))
    assert {"--type=v5p", "--topology=4x4x24"} <= set(line)
    assert not any("accelerator-type" in part for part in line)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tpu": "v5litepod-15"}, 'did you mean "v5litepod-16"'),
        ({"tpu": None}, "give --xpk_tpu"),
        ({"tpu": "v5litepod-1"}, "the smallest is v5litepod-8"),
        ({"cluster": None}, "give --xpk_cluster"),
        ({"base_image": "b"}, "exactly one of --xpk_image and --xpk_base_image"),
        ({"priority": "urgent"}, "--xpk_priority=urgent is none of"),
        ({"slices": 0}, "--xpk_slices=0"),
    ],
)
def test_what_xpk_could_not_use_is_refused_before(tiny, options, says):
    given = {"tpu": "v5litepod-16", "cluster": "c", "image": "i"} | options
    with pytest.raises(ConfigError, match=says):
        xpk.create(Job((tiny(),)), "gs://b/w", xpk.XpkOptions(**given))


# ---- admission


def test_a_run_that_does_not_fit_is_refused_with_the_numbers_and_has_a_row(tiny, tmp_path):
    small = tiny()
    big = override(small, {"model.width": 65536, "model.mlp_width": 262144, "model.heads": 512})
    slice_ = find("v6e-1")
    assert admission.estimated(small, slice_, 1) is None
    why = admission.estimated(big, slice_, 1)
    assert why is not None
    assert "TiB a chip, which has 31.25 GiB (estimated" in why
    for _ in range(2):  # again: it is said once
        result = refuse(big, tmp_path, why)
    assert result is not None
    assert result.failure == "config"
    row = table(tmp_path).iloc[0]
    assert (row["status"], row["reason"], row["attempts"]) == ("failed", f"refused: {why}", 1)
    # What --check_memory=False tries all the same; what cannot be cut, it cannot.
    assert admission.cannot_be_cut(big, slice_, 1) is None
    assert admission.cannot_be_cut(big, find("v5litepod-16"), 1) is not None


@pytest.mark.parametrize("state", ["done", "diverged"])
def test_a_run_that_has_ended_is_not_refused_afterwards(tiny, tmp_path, state):
    run = RunDirectory.open(tiny(), tmp_path)
    run.write_status(state, step=12)
    before = (run.path / "status.json").read_bytes()
    assert refuse(tiny(), tmp_path, "does not fit a smaller slice") is None
    assert (run.path / "status.json").read_bytes() == before
    assert not run.attempts()


def test_a_workdir_is_one_that_the_hosts_can_have(tmp_path):
    for fine in ("gs://bucket/study", "s3://bucket/study", tmp_path):
        admission.check_workdir(fine)
    with pytest.raises(UserError, match=r"--workdir=out is a folder of this machine"):
        admission.check_workdir("out")


def test_a_batch_that_does_not_divide_over_the_chips_is_refused(tiny):
    why = admission.estimated(tiny(), find("v5litepod-16"), 1)
    assert why is not None
    assert "cannot be split over 16 devices" in why


def test_slices_that_the_mesh_does_not_know_of_are_refused(tiny):
    why = admission.estimated(tiny(), find("v6e-1"), 2)
    assert why is not None
    assert "mesh.replica" in why
    assert admission.estimated(tiny({"mesh.replica": 2}), find("v6e-1"), 2) is None


# ---- what is done next


@pytest.mark.parametrize(
    ("state", "hosts", "stopped", "step"),
    [
        ("WAITING_FOR_RESOURCES", None, False, "wait"),
        ("ACTIVE", None, False, "begin"),
        ("ACTIVE", None, True, "end"),
        ("SUSPENDED", None, False, "end"),
        (None, None, False, "end"),
        ("ACTIVE", [None, 0], False, "wait"),
        ("ACTIVE", [0, 1], False, "end"),
        # At every look: hosts that are being set up have no process yet to tell.
        ("ACTIVE", [None], True, "tell"),
        # An ssh may hang for ever when its host is gone.
        ("SUSPENDED", [None], False, "end"),
        ("FAILED", [None, 0], True, "end"),
        (None, [None], False, "end"),
        # On the way there the hosts may be saving.
        ("SUSPENDING", [None], False, "wait"),
        ("DELETING", [None], True, "tell"),
        ("SUSPENDING", [75], False, "end"),
    ],
)
def test_what_is_done_about_a_queued_resource(state, hosts, stopped, step):
    assert gcloud.next_step(state, hosts, stopped) == step


class Shelf(watching.WatchingBackend):
    """A cloud whose commands are true and false."""

    def __init__(self, workdir, removes: str):
        super().__init__(workdir, poll=0.0, devices=4)
        self.there, self._removes = {}, removes

    def states(self):
        return self.there

    def is_over(self, state):
        return state == "over"

    def ask(self, job):
        return ["true"]

    def remove(self, job):
        return [self._removes]

    def look(self, number, entry, state):
        return Ended(number, tuple(Result(config, "done") for config in entry.job.configs))

    def stop(self): ...

    def close(self): ...


@pytest.mark.parametrize("removes", ["true", "false"])
def test_a_name_that_is_taken_is_made_free_or_the_job_has_failed(tiny, tmp_path, removes):
    place, job = Shelf(tmp_path, removes), Job((tiny(),))
    place.there[desk.name_of(job)] = "over"
    place.start(0, job)
    if removes == "false":
        (ended,) = place.wait(0.0)
        assert ended.death == "false ended with exit code 1: "
        return
    assert place.wait(0.0) == []  # told to go
    place.there.clear()
    assert place.wait(0.0) == []  # asked for
    (ended,) = place.wait(0.0)
    assert ended.results == (Result(job.configs[0], "done"),)


# ---- what every host runs


def on_a_host(line: str) -> subprocess.Popen:
    """As the container of a workload runs its command: by a shell, in a subshell."""
    return subprocess.Popen(
        ["bash", "-c", f"({line}) & trap 'kill -TERM $!' TERM; wait $!; wait $!; exit $?"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


@pytest.mark.slow
def test_a_host_trains_a_job_saves_on_sigterm_and_goes_on(tiny, tmp_path):
    job = Job((tiny({"train.steps": 1000, "train.checkpoint_every": 500, "evals.every": 1000}),))
    line = desk.command(job, tmp_path, sys.executable)
    path, run = desk.give(job, tmp_path), RunDirectory.open(job.configs[0], tmp_path)
    host = on_a_host(line)
    until = time.monotonic() + 120
    while run.status().get("step", 0) < 10 and time.monotonic() < until:
        assert host.poll() is None, host.communicate()[0]
        time.sleep(0.1)
    host.send_signal(signal.SIGTERM)
    said = host.communicate(timeout=60)[0]
    assert host.returncode == RESUME_ME, said  # so that xpk starts it again
    (ended,) = desk.read_ended(job, tmp_path)
    assert ended.status == "stopped"
    saved = run.status()["step"]
    assert saved >= 10

    again = on_a_host(line)
    said = again.communicate(timeout=120)[0]
    assert again.returncode == 0, said
    assert desk.read_ended(job, tmp_path) == (Result(job.configs[0], "done"),)
    steps = [m["step"] for m in run.metrics() if m["split"] == "train"]
    assert steps == list(range(1, 1001))
    assert json.loads(path.read_bytes())["configs"][0]["seed"] == job.configs[0].seed


# ---- docs/tpu.md


def test_the_page_says_what_the_table_and_the_commands_say(tiny):
    page = (REPOSITORY / "docs" / "tpu.md").read_text()
    rows = re.findall(r"^\| (\S+-\d+) \| (.*) \|$", page, flags=re.MULTILINE)
    assert len(rows) > 8
    for name, rest in rows:
        found = find(name)
        where = (found.xpk_type, found.nodes) if found.on_gke else ("-", "-")
        expected = [found.name, where[0], found.chips, found.vms, where[1], found.runtime]
        assert rest.split(" | ") == [str(value) for value in expected]

    job = Job((tiny(),))
    common = {"tpu": "v6e-1", "project": "my-project", "zone": "us-east5-b"}
    image = "us-docker.pkg.dev/my-project/scaling/scaling:1"
    of_xpk = xpk.XpkOptions(**common, cluster="my-cluster", image=image)
    of_gcloud = gcloud.GcloudOptions(
        **common,
        spot=True,
        patience="6h",
        service_account="runs@my-project.iam.gserviceaccount.com",
    )
    shown = re.sub(r" \\\n +", " ", page)
    for line in (xpk.create(job, "gs://my-bucket/width", of_xpk), gcloud.create(job, of_gcloud)):
        assert shell.text(line).replace(desk.name_of(job), "run-HASH") in shown
