"""The wheel: it holds all that the commands need, and, installed alone, runs from any folder."""

import os
import pathlib
import shutil
import subprocess
import sys
import venv
import zipfile

import pytest

REPOSITORY = pathlib.Path(__file__).parents[1]
CARRIED = ("configs", "experiments")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
    """Built from a copy, so that the checkout stays as it is."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(REPOSITORY / name, source)
    for name in ("scaling", *CARRIED):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, source / name, ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={out}"]
    subprocess.run([*command, str(source)], check=True, timeout=300)
    (built,) = out.iterdir()
    return built


@pytest.mark.slow
def test_it_holds_all_that_the_commands_need(wheel):
    with zipfile.ZipFile(wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
    needed = set()
    for folder, place in (("scaling", ""), *((name, "scaling/checkout/") for name in CARRIED)):
        for path in (REPOSITORY / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md":
                needed.add(place + path.relative_to(REPOSITORY).as_posix())
    assert needed == held


@pytest.mark.exhaustive
def test_installed_alone_it_runs_the_quick_start_from_another_folder(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    here = tmp_path / "elsewhere"
    here.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

    def run(program: str, *arguments: str) -> str:
        command = [str(tmp_path / "venv" / "bin" / program), *arguments]
        done = subprocess.run(
            command, cwd=here, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("pip", "install", "--quiet", f"--constraint={REPOSITORY / 'constraints.txt'}", str(wheel))
    assert "scaling <command>" in run("scaling", "--help")
    assert "launch.py" not in run("scaling", "sweep", "--help")
    study = "--experiment=experiments/quickstart.py:debug"
    assert "report: out/report/quickstart/index.html" in run("scaling", "sweep", study)
    # The same study as a module; two worker processes; a config of the package.
    module = "--experiment=experiments.quickstart:debug"
    run("scaling", "sweep", module, "--workdir=two", "--workers=2", "--noreport")
    run("scaling", "train", "--config=configs/moe.py:debug", "--track=csv")
    assert len(list((here / "out" / "trackers" / "csv").iterdir())) == 1
    assert len(list((here / "two" / "runs").iterdir())) == 5
    run("python", "-c", "import scaling; assert len(scaling.runs('out')) == 6")
