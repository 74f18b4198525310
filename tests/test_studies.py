"""Every config and every study trains in its debug form, and resolves to what is stored."""

import re
import subprocess
import sys

import jax
import pytest
from golden import FOLDER, REPOSITORY, expected, files, resolved

from configs import lm
from experiments import bert_finetune
from scaling.config.sweep import Study, grid
from scaling.costs import sizes
from scaling.errors import ConfigError
from scaling.executors import plan as plan_lib
from scaling.executors.local import run_local
from scaling.records import RunDirectory
from scaling.report import report
from scaling.studies import study
from scaling.train.loop import train


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """One for all studies: runs that two of them need are trained once."""
    return tmp_path_factory.mktemp("studies")


FAST = ("tiny",)  # configs that are trained at each change
LONG = ("multitask",)  # whose tasks others train one by one


def _marks(config):
    if config in FAST:
        return ()
    return pytest.mark.exhaustive if config in LONG else pytest.mark.slow


def test_resolved_configs_are_as_stored():
    """A difference is a hyper-parameter that moved; if it should have, run `make golden`."""
    texts = expected()
    assert sorted(texts) == sorted(path.name for path in FOLDER.glob("*.*.txt"))
    for name, text in texts.items():
        assert text == (FOLDER / name).read_text(), f"{name} differs; make golden rewrites it"


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=_marks(path.stem)) for path in files("configs")],
)
def test_every_config_trains_in_its_debug_form(path, workdir):
    config = study.resolve(study.load_config(f"{path}:debug"))
    assert train(config, workdir, devices=jax.devices()[:1], quiet=True).status == "done"


# tests/test_launch.py sweeps the quick start.
MARKS = {"cooldown": pytest.mark.slow}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=MARKS.get(path.stem, pytest.mark.exhaustive))
        for path in files("experiments")
    ],
)
def test_every_study_trains_in_its_debug_form_and_is_reported(path, workdir, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    plan = study.load_study(f"{path}:debug")
    configs = study.runs(plan)
    jobs = plan_lib.plan(configs, workdir).jobs
    results = run_local(jobs, workdir, workers=1, devices=jax.devices()[:1])
    assert {result.status for result in results} == {"done"}
    runs = [RunDirectory.open(config, workdir) for config in configs]
    page = report(runs, out=workdir / "report" / plan.name, study=plan)
    text = page.read_text()
    assert plan.name in text
    assert "<svg" in text or "data:image" in text
    assert "http://" not in text.replace("http://www.w3.org", "")


@pytest.mark.exhaustive
def test_debug_runs_are_seconds_not_minutes():
    """By FLOPs, as time is the machine's: a hundred million a run, ten thousand million a study."""

    for path in files("experiments"):
        costs = [sizes.cost(c).flops for c in study.runs(study.load_study(f"{path}:debug"))]
        assert max(costs) < 2e9
        assert sum(costs) < 2e10


def named_forms():
    """ "experiments/data.py:debug" and whatever other forms the pages name."""
    found = set()
    for page in (REPOSITORY / "docs").glob("*.md"):
        found |= set(re.findall(r"experiments/\w+\.py:\w+", page.read_text()))
    ours = {path.name for path in files("experiments")}  # "mine.py" is a reader's
    return sorted(spec for spec in found if spec.split("/")[1].split(":")[0] in ours)


@pytest.mark.slow
def test_every_form_that_the_pages_name_has_runs_and_their_axes(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    for spec in named_forms():
        assert study.runs(study.load_study(spec)), spec


@pytest.mark.parametrize("form", bert_finetune.LABELLED)
def test_pretraining_has_nothing_of_the_task_that_follows(form):
    """All tasks begin with the same runs, which are trained once."""

    def begun(form):
        runs = bert_finetune.get_study(form).configs(resolved)
        return {run.begins.run for run in runs} - {None}

    assert begun(form)
    assert begun(form) <= begun("tokens")


@pytest.mark.parametrize("path", files("configs") + files("experiments"), ids=str)
def test_a_typo_does_not_train_at_full_size(path):
    function = "get_config" if path.parent.name == "configs" else "get_study"
    with pytest.raises(ConfigError, match=r'did you mean "debug"'):
        study.load(f"{path}:debugg", function)


@pytest.mark.parametrize(
    ("axes", "error"),
    [
        ({"x": "parms"}, 'x="parms" is no column of numbers of the runs\' table (did you mean "pa'),
        ({"x": "corpus"}, 'x="corpus" is no column of numbers'),
        ({"group": "model.wdth"}, 'group="model.wdth" is no column'),
        ({"group": "optim.name"}, 'group="optim.name" is the same in every run'),
    ],
)
def test_axes_that_the_report_will_not_have_are_refused_before_anything_is_trained(axes, error):
    base, runs = lm.get_config("debug"), grid({"model.width": [16, 32]})
    assert len(study.runs(Study("a", base=base, runs=runs, x="flops", group="model.width"))) == 2
    with pytest.raises(ConfigError, match=re.escape(error)):
        study.runs(Study("a", base=base, runs=runs, **axes))


def test_the_page_of_studies_lists_every_study():
    page = (REPOSITORY / "docs/studies.md").read_text()
    for path in files("experiments"):
        assert f"experiments/{path.name}" in page


@pytest.mark.slow
def test_twenty_line_study_of_the_page_runs(tmp_path):
    """The study that the page shows is the one that is tested: it is cut out of the page."""
    page = (REPOSITORY / "docs/studies.md").read_text()
    block = page.split("<!-- study -->\n```python\n", 1)[1].split("```", 1)[0]
    assert len([line for line in block.splitlines() if line.strip()]) <= 20
    file = tmp_path / "mine.py"
    file.write_text(block)
    done = subprocess.run(
        [
            sys.executable,
            "launch.py",
            "sweep",
            f"--experiment={file}",
            f"--workdir={tmp_path}",
            "--dry_run",
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "FLOPs to do" in done.stdout
    assert "no law" not in done.stdout
