"""Every flag of every command with values that cannot be: one line, which names the flag.

`fit` and `plan` take columns and laws, which their own tests refuse.
"""

import pytest
from absl import flags

from scaling.commands import COMMANDS
from scaling.commands.main import main
from scaling.errors import BAD_INPUT

ELSEWHERE = {"fit", "plan"}
ABSURD = ("0", "-1", "text", "")
# Flags of text that take any of it, and what the others take of the values above. What is left is
# refused.
TEXT = {"prompt"}
ANY_BUT_NONE = {"workdir", "json", "partition", "account", "qos", "constraint", "exclude"}
ANY_BUT_NONE |= {"setup", "extra", "folder", "cluster", "project", "zone", "image", "base_image"}
ANY_BUT_NONE |= {"reservation", "env", "python", "runtime", "patience", "service_account"}
ANY_BUT_NONE |= {"network", "logs", "only", "part", "interpolation", "picture", "prompts", "stop"}
ANY_BUT_NONE |= {"where", "add", "remove", "note", "sort", "columns", "text"}
TAKEN = {
    ("generate", "seed"): {"0", "-1"},
    ("generate", "temperature"): {"0"},
    ("samples", "seed"): {"0", "-1"},
    ("explain", "row"): {"0"},
    ("explain", "place"): {"0"},
    ("explain", "out"): {*ABSURD} - {""},
    ("certify", "tolerance"): {"0"},
    ("data", "lines"): {"0"},
    ("retain", "keep"): {"0"},
    ("serve", "port"): {"0"},
    ("serve", "host"): {*ABSURD} - {""},
    ("sweep", "slurm_save"): {"0"},
    ("sweep", "xpk_restarts"): {"0"},
    ("sweep", "xpk_grace"): {"0"},
    # They look for a folder before they do anything, and say so.
    ("status", "workdir"): set(),
    ("runs", "workdir"): set(),
    ("report", "workdir"): set(),
    ("samples", "workdir"): set(),
    ("compress", "workdir"): set(),
    ("ensemble", "workdir"): set(),
    ("ensemble", "out"): {*ABSURD} - {""},
    ("sweep", "topology"): set(),
}


def defined(command: str) -> list[flags.Flag]:
    """The flags of a command; none of them is set."""
    forget()
    COMMANDS[command].define_flags()
    found = own()
    forget()
    return found


def own() -> list[flags.Flag]:
    modules = flags.FLAGS.flags_by_module_dict().items()
    return [flag for name, found in modules if name.startswith("scaling.") for flag in found]


def forget() -> None:
    """As in a new process."""
    for flag in own():
        delattr(flags.FLAGS, flag.name)


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """`said(*argv)`: the one line of a command line that ends with bad input."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "config.json").write_text("{}")

    def run(*argv: str) -> str:
        forget()
        code = main(["launch.py", *argv])
        (line,) = capsys.readouterr().err.splitlines()
        assert code == BAD_INPUT, line
        assert line.startswith("error: ")
        return line

    yield run
    forget()


def base(command: str, flag: str) -> list[str]:
    """What the flag needs beside it, for its value to be looked at."""
    executor = flag.partition("_")[0]
    more = [f"--executor={executor}"] if executor in ("slurm", "xpk", "gcloud") else []
    beside = {
        ("sweep", "topology"): ["--check"],
        ("check", "topology"): ["--config=mine.py"],
        ("diff", "a"): ["--b=there"],
        ("diff", "b"): ["--a=there"],
    }
    return more + beside.get((command, flag), [])


CASES = [
    (command, flag)
    for command in COMMANDS
    if command not in ELSEWHERE
    for flag in defined(command)
    if flag.name != "config.<field>"
]
IDS = [f"{command}-{flag.name}" for command, flag in CASES]


def taken(command: str, flag: flags.Flag, value: str) -> bool:
    if (command, flag.name) in TAKEN:
        return value in TAKEN[command, flag.name]
    if flag.boolean:
        return value == "0"
    name = flag.name.partition("_")[2] if base(command, flag.name) else flag.name
    return flag.name in TEXT or (name in ANY_BUT_NONE and value != "")


@pytest.mark.parametrize(("command", "flag"), CASES, ids=IDS)
def test_a_value_that_cannot_be_is_one_line_that_names_the_flag(said, command, flag):
    more = base(command, flag.name)
    for value in ABSURD:
        line = said(command, *more, f"--{flag.name}={value}")
        # What is taken goes on to the first thing that is missing: it is not named.
        named = f"--{flag.name}" in line and "changes nothing" not in line
        assert named == (not taken(command, flag, value)), (value, line)


@pytest.mark.parametrize(("command", "flag"), CASES, ids=IDS)
def test_a_missing_value_is_named_and_no_other_flag_is_taken_for_it(said, command, flag):
    if flag.boolean:
        assert f"--no{flag.name}=3" in said(command, f"--no{flag.name}=3")
        return
    for rest in ([], ["--help_me"], ["--workdir=out"]):
        assert f"--{flag.name} needs a value" in said(command, f"--{flag.name}", *rest)


def test_a_negative_number_and_a_dash_are_values(said):
    assert "give --run" in said("generate", "--seed", "-5", "--temperature", "0")
    assert "give --config" in said("check", "--json", "-")


def test_a_flag_of_another_command_is_named_with_the_nearest(said):
    assert 'train has no flag --confg (did you mean "config"?)' in said("train", "--confg=3")
    assert "status has no flag --tokens (status --help" in said("status", "--tokens=3")


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (("train", "--run=there", "--workdir=out"), "--workdir changes nothing with --run"),
        (("train", "--run=there", "--config.seed=3"), "--config.seed changes nothing with --run"),
        (("sweep", "--executor=slurm", "--workers=2"), "--workers changes nothing with --executor"),
        (("sweep", "--hbm=1e9"), "--hbm changes nothing without --check"),
    ],
)
def test_a_flag_that_would_change_nothing_is_refused(said, argv, named):
    assert named in said(*argv)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("wide", "model.width=wide"),
        ("", "model.width="),
        ("2.5", "model.width"),
        ("-1", "model.width=-1"),
    ],
)
def test_a_field_of_a_config_is_named(said, monkeypatch, value, named):
    monkeypatch.chdir(pytest.importorskip("configs").__path__[0] + "/..")
    line = said("check", "--config=configs/lm.py:debug", f"--config.model.width={value}")
    assert named in line
