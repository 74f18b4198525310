"""Our gcloud command lines, read by the real gcloud's own parser; nothing is sent anywhere."""

import json
import os
import shutil
import subprocess

import pytest

from scaling.devices import slices
from scaling.executors.jobs import Job
from scaling.executors.pods import desk, gcloud, shell

pytestmark = pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")

FULL = gcloud.GcloudOptions(
    tpu="v5litepod-16",
    slices=2,
    project="p",
    zone="us-west4-a",
    spot=True,
    patience="6h",
    service_account="runs@p.iam.gserviceaccount.com",
    network="default",
    internal_ips=True,
    setup="git clone https://example.com/scaling.git",
    env=("JAX_TRACEBACK_FILTERING=off",),
)


def parsed(lines: list[list[str]], home) -> list[dict]:
    """What gcloud's linter says of command lines: it parses them and goes no further."""
    file = home / "lines.json"
    file.write_text(json.dumps([{"command_string": shell.text(line)} for line in lines]))
    done = subprocess.run(
        ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={file}"],
        capture_output=True,
        text=True,
        check=False,
        # No account, no usage reports, no look at the machine's metadata; a proxy where nothing
        # listens, in case it tried.
        env=os.environ
        | {
            "CLOUDSDK_CONFIG": str(home),
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
            "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
            "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
            "CLOUDSDK_PROXY_TYPE": "http",
            "CLOUDSDK_PROXY_ADDRESS": "127.0.0.1",
            "CLOUDSDK_PROXY_PORT": "9",
        },
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def values(found: dict) -> dict[str, object]:
    return {name: arg["value"] for name, arg in found["command_args"].items()}


def test_gcloud_understands_every_command_of_a_job(tiny, tmp_path):
    job = Job((tiny(),))
    lines = gcloud.commands(job, "gs://bucket/study", FULL)
    lines.append(gcloud.ssh("node", gcloud.STOP, FULL))
    found = parsed(lines, tmp_path)
    assert [f["error_message"] for f in found] == [None] * len(lines)
    assert [f["command_string_no_args"].split()[-1] for f in found] == [
        *("create", "list", "ssh", "ssh", "delete", "ssh")
    ]
    create, on_hosts = values(found[0]), values(found[2])
    name = desk.name_of(job)
    assert create["--accelerator-type"] == "v5litepod-16"
    assert create["--runtime-version"] == "v2-alpha-tpuv5-lite"
    assert create["--node-count"] == "2"
    # What the hosts run arrives as one piece.
    assert on_hosts["--command"] == gcloud.work(job, "gs://bucket/study", FULL)
    assert on_hosts["--worker"] == "all"
    assert f"--job=gs://bucket/study/jobs/{name}.json" in on_hosts["--command"]


def test_gcloud_refuses_what_is_wrong(tiny, tmp_path):
    """Else the test above would say nothing."""
    line = gcloud.create(Job((tiny(),)), FULL)
    (found,) = parsed([[*line, "--spots"]], tmp_path)
    assert found["error_type"] == "UnrecognizedArgumentsError"


def test_gcloud_takes_the_shape_of_every_chip_where_the_type_does_not_mean_it(tiny, tmp_path):
    unlisted = {s.chip.name: s.name for s in slices.all_slices() if not s.is_listed}
    job = Job((tiny(),))
    lines = [gcloud.create(job, gcloud.GcloudOptions(tpu=name)) for name in unlisted.values()]
    found = parsed(lines, tmp_path)
    assert [f["error_message"] for f in found] == [None] * len(lines)
    assert {values(f)["--type"] for f in found} == {"v4", "v5p"}
