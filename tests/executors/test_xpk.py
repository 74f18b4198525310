"""Our xpk command lines, given to the real xpk: the JobSet that it writes is read back.

xpk has an environment of its own (`make test-xpk`), for it moves packages that the project pins. It
runs as a program, without a cluster or an account: its dry run writes the manifest and sends
nothing.
"""

import concurrent.futures
import functools
import json
import os
import pathlib
import subprocess

import pytest
import yaml

from scaling.devices import slices
from scaling.devices.slices import Slice
from scaling.errors import RESUME_ME
from scaling.executors.jobs import Job
from scaling.executors.pods import desk, xpk

pytestmark = pytest.mark.xpk

XPK = os.environ.get("XPK", "xpk")  # the program
WORKDIR = "gs://bucket/a study"  # the blank: quoting must survive two shells
ON_GKE = [found for found in slices.all_slices() if found.on_gke]


def manifest(home: pathlib.Path, job: Job, **options) -> dict:
    """The JobSet that xpk makes of the workload of a job."""
    given = {"cluster": "c", "project": "p", "zone": "us-west4-a", "image": "gcr.io/p/scaling:v1"}
    line = xpk.create(job, WORKDIR, xpk.XpkOptions(**given | options))
    assert line[0] == "xpk"
    home.mkdir(parents=True, exist_ok=True)
    file = home / "manifest.yaml"
    done = subprocess.run(
        [XPK, *line[1:], "--dry-run", "--skip-validation", f"--output-manifest-file={file}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
        # Its settings are kept in the home directory; no usage reports.
        env=os.environ | {"HOME": str(home), "TELEMETRY_ENABLED": "false"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return yaml.safe_load(file.read_text())


def slice_job(jobset: dict) -> dict:
    (found,) = jobset["spec"]["replicatedJobs"]
    return found


def pod(jobset: dict) -> dict:
    return slice_job(jobset)["template"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("chip", sorted({found.chip.name for found in ON_GKE}))
def test_every_slice_of_the_table_is_what_xpk_makes_of_its_name(tiny, tmp_path, chip):
    job = Job((tiny(),))

    def check(found: Slice) -> None:
        jobset = manifest(tmp_path / found.topology, job, tpu=found.name)
        spec, select = slice_job(jobset)["template"]["spec"], pod(jobset)["nodeSelector"]
        assert select["cloud.google.com/gke-tpu-topology"] == found.topology
        assert select["cloud.google.com/gke-tpu-accelerator"] == found.gke_accelerator
        assert spec["parallelism"] == spec["completions"] == found.nodes
        (container,) = pod(jobset)["containers"]
        assert container["resources"]["limits"]["google.com/tpu"] * found.nodes == found.chips

    own = [found for found in ON_GKE if found.chip.name == chip]
    # All of few; of many the small ones, the large ones and a sample.
    chosen = own if len(own) < 20 else [*own[:4], *own[4:-2:24], *own[-2:]]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(check, chosen))


@functools.cache
def characteristics() -> dict[str, tuple[str, int, int]]:
    """xpk's own table: device type -> topology, hosts, chips of a host."""
    python = pathlib.Path(XPK).resolve().parent / "python"
    code = (
        "import json; from xpk.core import system_characteristics as s; print(json.dumps({"
        "n: (c.topology, c.vms_per_slice, c.chips_per_vm) for n, c in "
        "s.UserFacingNameToSystemCharacteristics.items() if c.accelerator_type.name == 'TPU'}))"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return {name: tuple(row) for name, row in json.loads(done.stdout).items()}


def test_the_table_and_that_of_xpk_agree_on_every_slice():
    table = characteristics()
    for found in slices.all_slices():
        expected = (found.topology, found.nodes, min(4, found.chips))
        assert (found.xpk_type in table) == found.on_gke, found.name
        if found.on_gke:
            assert table[found.xpk_type] == expected
            if found.is_listed:  # the short name, as people write it
                assert table[found.accelerator] == expected


def test_a_workload_runs_our_command_on_every_slice(tiny, tmp_path):
    job = Job((tiny(), tiny({"seed": 1})))  # a packed group is one workload
    jobset = manifest(
        tmp_path, job, tpu="v5litepod-16", slices=3, env=("JAX_TRACEBACK_FILTERING=off",)
    )
    assert jobset["kind"] == "JobSet"
    assert jobset["metadata"]["name"] == desk.name_of(job)
    assert slice_job(jobset)["replicas"] == 3
    (container,) = pod(jobset)["containers"]
    assert container["image"] == "gcr.io/p/scaling:v1"
    assert {"name": "JAX_TRACEBACK_FILTERING", "value": "off"} in container["env"]
    command = desk.command(job, WORKDIR, "python")
    assert command.startswith("exec python launch.py work '--job=gs://bucket/a study/jobs/run-")
    assert f"({command}) & PID=$!;" in container["command"][-1]


def test_a_workload_that_saved_and_ended_is_started_again(tiny, tmp_path):
    jobset = manifest(tmp_path, Job((tiny(),)), tpu="v6e-8", restarts=7, grace=90, priority="low")
    (rule,) = slice_job(jobset)["template"]["spec"]["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["operator"] == "NotIn"
    assert RESUME_ME in rule["onExitCodes"]["values"]
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] == 7
    assert pod(jobset)["terminationGracePeriodSeconds"] == 90
    assert pod(jobset)["priorityClassName"] == "low"


def test_xpk_understands_the_other_commands(tiny, tmp_path):
    options = xpk.XpkOptions(tpu="v6e-8", cluster="c", project="p", zone="us-west4-a")
    for line in (xpk.delete(Job((tiny(),)), options), xpk.connect(options)):
        done = subprocess.run(
            [XPK, *line[1:], "--dry-run", "--skip-validation"],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=os.environ | {"HOME": str(tmp_path), "TELEMETRY_ENABLED": "false"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
