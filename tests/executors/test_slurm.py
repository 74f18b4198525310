"""What the Slurm backend says to Slurm and reads from it, without one; `tests/slurm` has one."""

import dataclasses
import json

import pytest
from absl import flags

from scaling.commands import command
from scaling.config import RunConfig, override, run_name
from scaling.executors.jobs import Job
from scaling.executors.result import Result, read, write
from scaling.executors.slurm import SlurmOptions, queue
from scaling.executors.slurm.backend import _awaited, _still_there
from scaling.executors.slurm.options import node_devices, nodes_of, parameters
from scaling.executors.slurm.task import results_file, results_files


def line(*cells: object) -> str:
    return "".join(f"{cell!s:<30}|" for cell in cells)


TEXT = "\n".join(
    (
        line("7_0", "COMPLETED", 0, "scaling-a", "n0", "None"),
        line("7_1", "RUNNING", 0, "scaling-a", "n[0-1]", "None"),
        line("7_2", "PENDING", 0, "scaling-a", "", "PartitionNodeLimit"),
        line("8", "FAILED", 7 << 8, "scaling-b", "n1", "None"),  # as the system call wait has it
        line("9", "FAILED", (128 + 9) << 8, "scaling-c", "n1", "None"),  # a shell's child, killed
        line("10", "FAILED", 9, "scaling-d", "n1", "None"),  # killed itself
        line("11", "OUT_OF_MEMORY", 0, "other", "n1", "None"),
        "an unrelated line",
    )
)


def test_what_squeue_says_is_read():
    entries = queue.parse(TEXT)
    assert list(entries) == ["7_0", "7_1", "7_2", "8", "9", "10", "11"]
    assert [e.is_over for e in entries.values()] == [True, False, False, True, True, True, True]
    assert [entries[id].exit_code for id in ("7_0", "8", "9", "10")] == [0, 7, -9, -9]
    assert entries["7_1"].nodes == "n[0-1]"
    assert [id for id, e in entries.items() if e.is_stuck] == ["7_2"]


def test_a_death_says_how_and_of_which_kind():
    entries = queue.parse(TEXT)
    deaths = {id: queue.death(id, entry) for id, entry in entries.items()}
    assert "exit code 7" in deaths["8"].text
    assert "on n1" in deaths["8"].text
    assert deaths["9"].exit_code == deaths["10"].exit_code == -9
    assert "signal 9" in deaths["9"].text
    assert [deaths[id].failure for id in ("8", "9", "11")] == ["lost", "lost", "memory"]
    assert "gone" in queue.death("12", None).text


@pytest.fixture
def configs():
    base = {"train.steps": 5, "data.corpus": "c0ffee", "evals.sets.val.corpus": "c0ffee"}
    return [override(RunConfig(), base | {"seed": seed}) for seed in range(4)]


def test_the_next_scheduler_finds_what_is_still_there(tmp_path, configs):
    """Also when the last line of the ledger is torn, and when Slurm no longer knows an array."""
    ledger = tmp_path / "submitted.jsonl"
    names = [run_name(config) for config in configs]
    lines = [
        {"token": "a", "tasks": [[names[0]], [names[1]], [names[2], names[3]]]},
        {"token": "b", "tasks": [[names[0]]]},
        {"token": "forgotten", "tasks": [[names[0]]]},
    ]
    ledger.write_text("".join(json.dumps(x) + "\n" for x in lines) + '{"token": "d", "ta')
    found = _still_there(ledger, queue.parse(TEXT))
    assert found == {"7_1": {names[1]}, "7_2": {names[2], names[3]}}
    assert _still_there(tmp_path / "none", queue.parse(TEXT)) == {}


def test_a_stop_cancels_what_its_jobs_wait_for_and_nobody_elses(configs):
    a, b, c, d = (run_name(config) for config in configs)
    others = {"7_1": frozenset((a, b)), "7_2": frozenset((c,)), "8_0": frozenset((d,))}
    waiting = [frozenset((a,)), frozenset((b, c))]  # packed otherwise this time
    assert _awaited(others, waiting) == ["7_1", "7_2"]
    assert _awaited(others, []) == []


def test_a_slurm_that_cannot_be_told_is_no_crash(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # no scancel
    assert not queue.cancel(["7_1"])
    assert queue.cancel([])


def test_of_several_processes_the_one_that_failed_by_itself_is_believed(tmp_path, configs):
    def left(id: str) -> tuple[Result, ...] | None:
        return read(configs[:1], results_files(tmp_path, id))

    assert left("7_1") is None
    lost = Result(configs[0], "failed", "another process is gone", "lost")
    done = Result(configs[0], "done")
    memory = Result(configs[0], "failed", "RESOURCE_EXHAUSTED", "memory")
    write(results_file(tmp_path, "7_1", 0), [lost])
    assert left("7_1") == (lost,)
    write(results_file(tmp_path, "7_1", 1), [done])
    assert left("7_1") == (done,)
    write(results_file(tmp_path, "7_1", 2), [memory])
    assert left("7_1") == (memory,)
    assert left("7_10") is None


def test_a_run_gets_the_nodes_that_its_mesh_needs(configs):
    def nodes(mesh: dict[str, int], **options: object) -> int:
        job = Job((override(configs[0], {f"mesh.{k}": v for k, v in mesh.items()}),))
        return nodes_of(job, dataclasses.replace(SlurmOptions(), **options))

    assert nodes({}) == 1
    assert nodes({"fsdp": 2}) == 2
    assert nodes({"fsdp": 4, "tensor": 2}, gpus=8) == 1
    assert nodes({"fsdp": 8, "tensor": 2}, gpus=8) == 2
    assert nodes({"fsdp": 4}, tasks_per_node=2) == 2
    assert nodes({"fsdp": 16}, nodes=3) == 3


def test_a_node_has_the_devices_that_the_options_say():
    assert node_devices(SlurmOptions(gpus=8, tasks_per_node=2)) == 8
    assert node_devices(SlurmOptions(tasks_per_node=2)) == 2
    assert node_devices(SlurmOptions(tasks_per_node=2), cpu_devices=4) == 8


def test_options_become_flags_and_sbatch_parameters(monkeypatch):
    values = flags.FlagValues()
    for kind in ("string", "integer", "float", "bool", "multi_string"):
        define = getattr(flags, f"DEFINE_{kind}")
        monkeypatch.setattr(
            flags, f"DEFINE_{kind}", lambda *a, _d=define, **k: _d(*a, flag_values=values, **k)
        )
    monkeypatch.setattr(command, "FLAGS", values)
    command.options_flags("slurm", SlurmOptions)
    given = ["--slurm_time=120", "--slurm_mem=1.5", "--slurm_cpus=4", "--slurm_partition=gpu"]
    values(["x", *given, "--slurm_setup=module load a", "--slurm_setup=b", "--slurm_extra=nice=5"])
    options = command.given_options("slurm", SlurmOptions)
    assert options == SlurmOptions(
        time=120,
        mem=1.5,
        cpus=4,
        partition="gpu",
        setup=("module load a", "b"),
        extra=("nice=5",),
    )
    asked = parameters(options)
    assert (asked["time"], asked["mem"], asked["partition"]) == (120, "1536MB", "gpu")
    assert asked["setup"][1:] == ["module load a", "b"]
    assert asked["additional_parameters"] == {"requeue": True, "nice": "5"}
    assert "--cpus-per-task=4" in asked["srun_args"]
    assert "account" not in asked
