"""The command line, as a person meets it: help, one-line errors, exit codes, and the whole way from
a study to a report and a generated line."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from scaling.config import RunConfig, from_dict
from scaling.errors import ConfigError
from scaling.records import RunDirectory, find_runs
from scaling.studies import study

REPOSITORY = pathlib.Path(__file__).parents[1]
COMMANDS = ("train", "sweep", "status", "report", "fit", "plan", "check", "generate", "data")


def launch(*arguments: object) -> subprocess.CompletedProcess:
    """`python launch.py ...` to its end."""
    return subprocess.run(
        [sys.executable, "launch.py", *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_lists_every_command():
    done = launch("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert f"  {command}" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(command):
    done = launch(command, "--help")
    assert done.returncode == 0, done.stderr
    assert f"python launch.py {command}" in done.stdout
    assert "--" in done.stdout.split("Flags:")[1]


DEBUG = "--config=configs/lm.py:debug"
QUICK = "--experiment=experiments/quickstart.py:debug"
BAD = {
    "no such command": (["trian"], 'did you mean "train"'),
    "no such flag": (["train", "--confg=x"], "confg"),
    "no such key": (
        ["train", DEBUG, "--config.model.widht=3"],
        'model.widht is no config field (did you mean "width"?)',
    ),
    "no such form": (["train", DEBUG + "g"], ':debugg is no form of this config (did you mean "de'),
    "no such config": (["check", "--config=configs/lmm.py"], "configs/lmm.py is no file"),
    "a study as config": (
        ["train", "--config=experiments/width.py:debug"],
        "experiments/width.py has no function get_config(arg); it is a study (--experiment)",
    ),
    "a field for a study": (
        ["sweep", "--config.model.width=32"],
        "sweep takes no --config.model.width; set it in the study's base",
    ),
    "a file for a folder": (["status", "--workdir=README.md"], "--workdir=README.md is a file"),
    "too large": (
        ["train", DEBUG, "--config.model.width=1000000"],
        "a step needs about",
    ),
    "no folder": (["status", "--workdir=/nowhere"], "there is no folder --workdir=/nowhere"),
    "no workers": (["sweep", "--workers=0", "--dry_run"], "--workers=0"),
    "flags of another executor": (
        ["sweep", "--slurm_gpus=1"],
        "--slurm_gpus changes nothing with --executor=local; add --executor=slurm",
    ),
    "a share above one": (["sweep", "--mfu=40"], "--mfu=40 must be above 0 and at most 1"),
    "two warm-ups": (
        ["train", DEBUG, "--config.optim.warmup_steps=2", "--config.optim.warmup_fraction=0.1"],
        "give one of optim.warmup_steps and optim.warmup_fraction, not both",
    ),
    "wrong type": (["train", DEBUG, "--config.model.width=wide"], "width"),
    "heads do not divide": (
        ["train", DEBUG, "--config.model.width=33"],
        "model.width=33 is not divisible by model.heads=2",
    ),
    "mesh does not match": (
        ["train", DEBUG, "--cpu_devices=8", "--config.mesh.fsdp=3"],
        "mesh.fsdp=3",
    ),
    "axis does not divide": (
        ["check", DEBUG, "--cpu_devices=8", "--config.mesh.tensor=4", "--config.mesh.data=2"],
        "mesh.tensor=4",
    ),
    "json that cannot be written": (
        ["check", DEBUG, "--cpu_devices=2", "--json=/nowhere/check.json"],
        "--json=/nowhere/check.json: there is no directory /nowhere",
    ),
    "missing data": (
        ["train", DEBUG, "--config.data.source=text:/nowhere/*.txt"],
        "/nowhere/*.txt",
    ),
    "no such study": (["sweep", "--experiment=experiments/nothing.py"], "is no file"),
    "pods without a common workdir": (
        ["sweep", QUICK, "--executor=xpk", "--xpk_tpu=v5litepod-16"],
        "--workdir=out is a folder of this machine",
    ),
    "nothing to report": (["report", "--workdir=/nowhere"], "/nowhere"),
    "run that is not there": (["generate", "--run=/nowhere/run"], "/nowhere/run"),
}


# Each takes the seconds of a new process, and the ways are few: the others are slow.
SAMPLED = {"no such command", "no such key", "too large", "mesh does not match", "missing data"}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case in SAMPLED else pytest.mark.slow) for case in BAD],
)
def test_bad_input_gets_one_line_that_names_it(case, tmp_path):
    arguments, named = BAD[case]
    if arguments[0] == "train":
        arguments = [*arguments, f"--workdir={tmp_path}"]
    done = launch(*arguments)
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")


FILES = {
    "no argument": ("def get_study(): pass", 'define it as get_study(arg: str = "")'),
    "a dict": ("def get_study(arg): return {}", "get_study must return a Study, not a dict"),
    "base not called": (
        "from configs import lm\nfrom scaling.config.sweep import Study\n"
        "def get_study(arg): return Study('a', base=lm.get_config, runs=[{}])",
        "study a, base: a config must be a ConfigDict, not a function; call it",
    ),
    "import": ("\nimport nothere", "line 2: ModuleNotFoundError: No module named 'nothere'"),
    "syntax": ("\ndef f(:", "line 2: SyntaxError: invalid syntax"),
    "typo in the base": (
        "from configs import lm\ndef get_study(arg):\n    lm.get_config(arg).model.widht = 3",
        'line 3: AttributeError: Key "widht" does not exist. Did you mean "width" instead of '
        '"widht"?',
    ),
    "a config": ("def get_config(arg): pass", "no function get_study(arg); it is a config"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_mistake_in_a_study_file_is_one_line_with_its_place(case, tmp_path):
    text, said = FILES[case]
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))}|^study a") as error:
        study.load_study(str(path))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def configured(*argv: str) -> RunConfig:
    """The config that `launch.py train` would take from its command line."""
    code = (
        "import sys, json; from scaling.commands import COMMANDS, config_flag; "
        "from scaling.commands.command import FLAGS; from scaling.config import to_dict; "
        "COMMANDS['train'].define_flags(); "
        "FLAGS(['train', *config_flag.gather('train', sys.argv[1:])]); "
        "print(json.dumps(to_dict(config_flag.given())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *argv],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return from_dict(json.loads(done.stdout))


def test_fields_are_set_and_unset_on_the_command_line():
    config = configured(
        DEBUG, "--config.optim.clip_norm=None", "--config.model.width", "64",
        "--config.model.scan_layers",
        "--noconfig.model.tie_embeddings", "--config.train.tokens=1e4",
    )  # fmt: skip
    assert config.optim.clip_norm is None
    assert config.model.width == 64
    assert config.model.scan_layers
    assert not config.model.tie_embeddings
    # The base has a length in steps.
    assert config.train.steps is None
    assert config.train.tokens == 1e4
    assert configured(DEBUG, "--config.train.steps=None").train.steps is None


def test_empty_data_is_named(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    done = launch("train", DEBUG, f"--config.data.source=text:{tmp_path}/*.txt")
    assert done.returncode == 2
    assert f"{tmp_path}/*.txt" in done.stderr
    assert "every document is empty" in done.stderr


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A finished debug sweep."""
    workdir = tmp_path_factory.mktemp("launch")
    done = launch("sweep", "--experiment=experiments/quickstart.py:debug", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert "5 done" in done.stdout
    assert "index.html" in done.stdout
    return workdir


@pytest.mark.slow
def test_sweep_writes_the_report(workdir):
    folder = workdir / "report" / "quickstart"
    assert (folder / "index.html").exists()
    for name in ("table.parquet", "table.csv", "figures/loss-params.png"):
        assert (folder / name).stat().st_size > 100


def metrics_times(workdir: pathlib.Path) -> list[int]:
    """When each run's metrics were last written."""
    return [f.stat().st_mtime_ns for f in sorted(workdir.glob("runs/*/metrics.jsonl"))]


def test_a_second_sweep_trains_nothing(workdir):
    before = metrics_times(workdir)
    done = launch("sweep", "--experiment=experiments/quickstart.py:debug", f"--workdir={workdir}")
    assert done.returncode == 0
    assert "5 runs, 5 done before, 0 to do" in done.stderr
    assert before == metrics_times(workdir)


@pytest.mark.slow
def test_dry_run_says_what_is_done_and_what_it_costs(workdir):
    done = launch(
        "sweep",
        "--experiment=experiments/quickstart.py:debug",
        f"--workdir={workdir}",
        "--dry_run",
    )
    assert "5 runs, 5 done" in done.stdout
    for column in ("params", "non-emb", "tokens", "steps", "FLOPs", "batch", "mesh", "bytes/dev"):
        assert column in done.stdout


def test_why_rents_nothing(workdir):
    done = launch(
        *("sweep", "--executor=gcloud", "--gcloud_tpu=v6e-1", "--why"),
        *("--experiment=experiments/quickstart.py:debug", f"--workdir={workdir}"),
    )
    assert done.returncode == 0, done.stderr
    assert "not trained: 5 (5 done)" in done.stdout


def test_status_shows_every_run(workdir):
    done = launch("status", f"--workdir={workdir}")
    assert done.returncode == 0
    assert "5 done" in done.stdout


@pytest.mark.slow
def test_generate_continues_the_prompt(workdir, tmp_path):
    run = find_runs(workdir)[0].path
    done = launch("generate", f"--run={run}", "--prompt=import ", "--tokens=8", "--seed=1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("import ")
    again = launch("generate", f"--run={run}", "--prompt=import ", "--tokens=8", "--seed=1")
    assert again.stdout == done.stdout
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("import \n\ndef f(\n")
    several = launch(
        "generate", f"--run={run}", f"--prompts={prompts}", "--tokens=8", "--top_p=0.9"
    )
    lines = [json.loads(line) for line in several.stdout.splitlines()]
    assert [line["prompt"] for line in lines] == ["import ", "def f("]
    assert all(line["text"].startswith(line["prompt"]) for line in lines)
    prompts.write_text("\n")
    assert "no prompt in it" in launch("generate", f"--run={run}", f"--prompts={prompts}").stderr


@pytest.mark.slow
def test_fit_reads_the_runs_of_a_study(workdir, tmp_path):
    other = RunDirectory(workdir / "runs" / "of-another-study")
    shutil.copytree(find_runs(workdir)[0].path, other.path)
    study = "--experiment=experiments/quickstart.py:debug"
    options = (f"--workdir={workdir}", "--law=power", "--bootstrap=50", f"--out={tmp_path}")
    done = launch("fit", study, *options)
    everything = launch("fit", *options)
    shutil.rmtree(other.path)
    assert done.returncode == 0, done.stderr
    assert "table.parquet: 5 rows" in done.stdout
    assert "table.parquet: 6 rows" in everything.stdout
    assert (tmp_path / "fit.json").exists()
    # A law of params alone has no compute-optimal split, and says so.
    plan = launch("plan", f"--fit={tmp_path}/fit.json", "--flops=1e15")
    assert plan.returncode == 2
    assert "power" in plan.stderr


def test_fit_of_a_folder_without_runs_writes_nothing(tmp_path):
    done = launch("fit", f"--workdir={tmp_path}/typo")
    assert done.returncode == 2
    assert "has no runs" in done.stderr
    assert not (tmp_path / "typo").exists()


@pytest.mark.slow
def test_sigterm_saves_and_says_resume_me(tmp_path):
    command = [
        sys.executable,
        "launch.py",
        "train",
        DEBUG,
        "--config.train.steps=100000",
        "--config.evals.every=50000",
        f"--workdir={tmp_path}",
    ]
    process = subprocess.Popen(command, cwd=REPOSITORY)
    while not any(run.metrics() for run in find_runs(tmp_path)):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75
    (run,) = find_runs(tmp_path)
    status = run.status()
    assert status["state"] == "stopped"
    assert (run.path / "checkpoints" / str(status["step"])).exists()


@pytest.mark.slow
def test_two_processes_on_one_run_are_refused(tmp_path):
    from scaling.records import RunDirectory

    command = ["train", DEBUG, f"--workdir={tmp_path}"]
    done = launch(*command)
    assert done.returncode == 0, done.stderr
    (run,) = find_runs(tmp_path)
    (run.path / "status.json").unlink()  # as if it were still to be trained
    with RunDirectory(run.path).lock():
        refused = launch(*command)
    assert refused.returncode == 2
    assert str(run.path) in refused.stderr
    assert str(os.getpid()) in refused.stderr


# ---- check


@pytest.mark.slow
def test_check_gives_json_to_a_program_and_text_to_a_person():
    done = launch("check", DEBUG, "--devices=2", "--config.mesh.fsdp=2", "--json=-")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["mesh"] == {"fsdp": 2}
    assert values["fits"] is True
    assert f"{values['params']['total']:,} total" in done.stderr


@pytest.mark.slow
def test_sweep_check_says_what_fits_and_trains_nothing(tmp_path):
    study = "--experiment=experiments/learning_rate.py:debug"
    flags = ("--devices=1", f"--workdir={tmp_path}", f"--json={tmp_path / 'check.json'}")
    done = launch("sweep", study, "--check", *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "9 runs, 2 programs; all fit"
    values = json.loads((tmp_path / "check.json").read_text())
    needs = [row["bytes_needed"] for row in values if "bytes_needed" in row]
    assert [path.name for path in tmp_path.iterdir()] == ["check.json"]

    refused = launch("sweep", study, "--check", *flags, f"--hbm={max(needs) - 1}")
    assert refused.returncode == 1
    assert "DOES NOT FIT" in refused.stdout


def test_a_topology_that_is_not_there_is_one_line():
    done = launch("check", DEBUG, "--topology=v5e:16x15")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        'error: --topology=v5e:16x15 is no TPU slice (did you mean "v5e:16x16"?)'
    )


def test_a_reader_that_has_read_enough_ends_a_command_without_a_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "launch.py", "fit", "--help"],
            cwd=REPOSITORY,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 128 + signal.SIGPIPE
