"""A disk that is full, a folder that is not writable, one that vanishes: one line, and the same
command goes on. Each is the real thing: file systems of their own, permissions, removed folders.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import jax
import pytest

from scaling import files
from scaling.errors import DiskFullError, StorageError
from scaling.executors.jobs import Job
from scaling.executors.local import run_local
from scaling.records import RunDirectory
from scaling.records.status import status_lines
from scaling.train.checkpoint import steps
from scaling.train.failures import classify
from scaling.train.loop import train
from scaling.train.packed import train_packed

REPOSITORY = pathlib.Path(__file__).parents[2]
DEVICES = jax.devices()[:1]
SAVES = {"train.checkpoint_every": 2}


def _mount(*arguments: str) -> None:
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here, so no file system that can be filled")
    if done.returncode:
        pytest.skip(f"this user may not mount a file system to fill: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file system of its own, of 20 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    _mount("-t", "tmpfs", "-o", "size=20m", "tmpfs", str(path))
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(disk: pathlib.Path, free: int) -> pathlib.Path:
    """A file that leaves so many bytes of a file system."""
    filler = disk / "filler"
    about = os.statvfs(disk)
    with open(filler, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, about.f_bavail * about.f_frsize - free)
    return filler


def lines(run: RunDirectory) -> list[dict[str, object]]:
    """Of metrics, without the clock's."""
    found = run.metrics()
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in found]


@pytest.fixture(scope="module")
def undisturbed(tiny, tmp_path_factory) -> list[dict[str, object]]:
    workdir = tmp_path_factory.mktemp("undisturbed")
    config = tiny(SAVES)
    train(config, workdir, devices=DEVICES, quiet=True)
    return lines(RunDirectory.open(config, workdir))


# Room for about one checkpoint and a half, for the first lines, for a part of config.json.
@pytest.mark.parametrize(
    "free", [400_000, *(pytest.param(free, marks=pytest.mark.slow) for free in (40_000, 4096))]
)
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(free, tiny, disk, undisturbed, capfd):
    config = tiny(SAVES)
    run = RunDirectory.open(config, disk)
    filler = fill(disk, free)
    with pytest.raises(DiskFullError) as met:
        train(config, disk, devices=DEVICES, quiet=True)
    said = str(met.value)
    saved = steps(run.path / "checkpoints")
    assert bool(saved) == (free == 400_000)
    kept = f"kept: the checkpoint of step {saved[-1]};" if saved else "kept: no checkpoint yet;"
    assert said.startswith(f"disk full: {run.path} cannot be written (file system {disk}: ")
    assert kept in said
    assert "run the same command again" in said
    assert "\n" not in said
    if free > 4096:  # else there is no room for status.json either
        assert run.status()["state"] == "failed"
        assert run.status()["reason"] == said
        assert said in "\n".join(status_lines(disk))
    assert "Traceback" not in capfd.readouterr().err
    assert not list(run.path.glob("checkpoints/*tmp*"))
    filler.unlink()
    assert train(config, disk, devices=DEVICES, quiet=True).status == "done"
    assert lines(run) == undisturbed


@pytest.mark.slow
def test_members_of_a_packed_group_say_it_too(tiny, disk, capfd):
    configs = [tiny(SAVES | {"seed": seed}) for seed in (0, 1)]
    fill(disk, 600_000)
    outcomes = train_packed(configs, disk, devices=DEVICES, quiet=True)
    for config, outcome in zip(configs, outcomes, strict=True):
        assert isinstance(outcome, DiskFullError)
        assert classify(outcome) == "disk"
        run = RunDirectory.open(config, disk)
        assert str(outcome).startswith(f"disk full: {run.path} cannot be written")
        assert run.status()["reason"] == str(outcome)
    assert "Traceback" not in capfd.readouterr().err


def test_a_folder_that_cannot_be_written_is_one_line(tiny, disk, tmp_path):
    """A file system mounted for reading only, on which a run had begun."""
    config, stop = tiny(SAVES), threading.Event()
    stop.set()
    assert train(config, disk, devices=DEVICES, quiet=True, stop=stop).status == "stopped"
    _mount("-o", "remount,ro", str(disk))
    path = RunDirectory.open(config, disk).path
    (saved,) = steps(path / "checkpoints")
    (member,) = train_packed([config], disk, devices=DEVICES, quiet=True)
    with pytest.raises(StorageError) as met:
        train(config, disk, devices=DEVICES, quiet=True)
    assert str(met.value) == str(member)
    assert str(member) == (
        f"not writable: {path} (Read-only file system); kept: the checkpoint of step {saved}; make "
        f"it writable and run the same command again: it goes on from step {saved}"
    )
    assert files.trouble(path) == f"{path} is not writable"


def test_a_folder_that_vanishes_is_one_line_and_is_not_made_again(tiny, tmp_path, capfd):
    config = tiny({"train.steps": 5000, "train.checkpoint_every": 10, "evals.every": 1000})
    run = RunDirectory.open(config, tmp_path)

    def remove() -> None:
        until = time.monotonic() + 60
        while not steps(run.path / "checkpoints") and time.monotonic() < until:
            time.sleep(0.01)
        run.path.rename(tmp_path / "elsewhere")

    thread = threading.Thread(target=remove)
    thread.start()
    with pytest.raises(StorageError) as met:
        train(config, tmp_path, devices=DEVICES, quiet=True)
    thread.join()
    assert str(met.value).startswith(f"gone: the folder {run.path} is not there any more, ")
    assert "Traceback" not in capfd.readouterr().err
    # Orbax may have made a folder for what it was about to write, and nothing else stands there.
    assert not list(run.path.glob("*.json*"))
    assert len(RunDirectory(tmp_path / "elsewhere").metrics()) >= 10


def test_an_end_is_written_where_there_is_no_room_for_another_file(disk):
    path = disk / "status.json"
    files.write_atomic(path, b'{"state": "running"}\n')
    fill(disk, 0)
    with pytest.raises(DiskFullError, match=f"disk full: cannot write {path}: No space left"):
        files.write_atomic(path, b'{"state": "failed"}\n')
    files.overwrite(path, b'{"state": "failed"}\n')
    assert path.read_bytes().rstrip() == b'{"state": "failed"}'
    with pytest.raises(DiskFullError):
        files.overwrite(path, b" " * 5000)  # more than its block
    assert path.read_bytes().rstrip() == b'{"state": "failed"}'


@pytest.mark.exhaustive
def test_a_folder_made_unwritable_while_its_run_goes_on(tmp_path, tiny_fields):
    """By the command, as a user who has no power over permissions."""
    fields = tiny_fields | {"train.steps": 4000, "train.checkpoint_every": 100}
    fields |= {"evals.every": 2000, "train.log_every": 50}
    flags = [f"--config={REPOSITORY}/configs/lm.py", f"--workdir={tmp_path}"]
    flags += [f"--config.{name}={value}" for name, value in fields.items()]
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root writes everywhere, and there is no setpriv to take that from it")
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    powers = drop if os.geteuid() == 0 else []

    def launch(*arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*powers, sys.executable, str(REPOSITORY / "launch.py"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )

    process, until = launch("train", *flags), time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/checkpoints/100")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.01)
    (path,) = tmp_path.glob("runs/*")
    path.chmod(0o555)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 2, said
    saved = steps(path / "checkpoints")[-1]
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert errors == [
        f"error: not writable: {path} (Permission denied); kept: the checkpoint of step {saved}; "
        f"make it writable and run the same command again: it goes on from step {saved}"
    ]
    assert "Traceback" not in said
    status = launch("status", f"--workdir={tmp_path}").communicate(timeout=120)[0]
    assert f"killed, or ended by this: {path} is not writable" in status
    path.chmod(0o755)
    said = launch("train", *flags).communicate(timeout=240)[0]
    assert "done at step 4000" in said


@pytest.mark.slow
def test_the_workers_of_a_sweep_say_it_in_one_line(tiny, disk, capfd):
    configs = [tiny(SAVES | {"seed": seed}) for seed in (2, 3)]
    from scaling.executors.healing import Bounds

    fill(disk, 500_000)
    jobs = [Job((config,)) for config in configs]
    results = run_local(jobs, disk, workers=2, bounds=Bounds(disk=1.0))
    said = capfd.readouterr().err
    for config, result in zip(configs, results, strict=True):
        assert result.status == "failed"
        assert result.failure == "disk"
        run = RunDirectory.open(config, disk)
        assert result.reason.startswith(f"disk full: {run.path} cannot be written")
        assert run.status()["reason"] == result.reason
        assert f"disk full: {run.path}" in said
    logs = "".join(path.read_text() for path in (disk / "logs").glob("*.log"))
    assert "Traceback" not in said + logs
