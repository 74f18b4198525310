"""One run of ten has a damaged file: nine go on, the file is named, and the run runs again."""

import json
import random
import shutil

import pytest
from written import finished, resolved

from scaling import laws
from scaling.config import RunConfig, override
from scaling.config.provenance import provenance
from scaling.errors import DamagedError
from scaling.executors import preview, why
from scaling.executors.jobs import each, over
from scaling.executors.plan import plan
from scaling.records import RunDirectory
from scaling.records.status import status_lines
from scaling.records.tables import table
from scaling.report import report
from scaling.studies import study
from scaling.train.loop import train

CONFIGS = [
    study.resolve_planned(
        override(RunConfig(), {"model.width": 32 * n, "model.vocab": 256, "train.steps": 20})
    )
    for n in range(1, 11)
]
VICTIM = 4
FILES = (
    *("config.json", "status.json", "metrics.jsonl", "branch.json", "attempts.jsonl"),
    *("spikes.jsonl", "cost.json"),
)


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    """Ten runs that are done, with every file that a run may have."""
    workdir = tmp_path_factory.mktemp("ten")
    for n, config in enumerate(CONFIGS, start=1):
        run = finished(config, workdir, loss=1.0 + 5.0 / n)
        run.write_branch("trunk", 3)
        run.add_attempt(failure="lost", reason="killed", answer="again", changed={}, step=4)
        run.add_spike({"step": 9, "loss": 8.0, "z": 9.0, "back_to": 5, "skipped": 4})
        (run.path / "cost.json").write_text(json.dumps({"program": "x"}))
    return workdir


def empty(path, rng):
    path.write_bytes(b"")


def truncated(path, rng):
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    # Of lines, the last whole one goes too: a torn end alone is what a kill leaves. The first one
    # stays, as a file without any line is damaged.
    most = len(b"".join(lines[:-1]) or content) - 1
    path.write_bytes(content[: rng.randrange(min(len(lines[0]) + 1, most - 1), most)])


def random_bytes(path, rng):
    path.write_bytes(rng.randbytes(rng.choice((1, 30, 5000))))


def overwritten(path, rng):
    content = bytearray(path.read_bytes())
    at = rng.randrange(max(1, len(content) - 20))
    content[at : at + 20] = rng.randbytes(16) + b"\xff{\x00\n"
    path.write_bytes(bytes(content))


def wrong_type(path, rng):
    """A value of each line, or the line, becomes one of another type."""
    out = []
    for text in _objects(path):
        values = json.loads(text)
        name = rng.choice(sorted(set(values) & KNOWN[path.name]))
        values[name] = rng.choice(
            [v for v in ([], {}, "x", 3.5) if type(v) is not type(values[name])]
        )
        out.append(json.dumps(values if rng.random() < 0.8 else [values]))
    path.write_text("\n".join(out) + "\n")


def missing_key(path, rng):
    out = []
    for text in _objects(path):
        values = json.loads(text)
        del values[rng.choice(sorted(set(values) & NEEDED[path.name]))]
        out.append(json.dumps(values))
    path.write_text("\n".join(out) + "\n")


def a_folder(path, rng):
    path.unlink()
    path.mkdir()


def _objects(path):
    text = path.read_text()
    return text.splitlines() if path.suffix == ".jsonl" else [text]


NEEDED = {
    "config.json": {"fingerprint", "created", "size", "provenance", "config"},
    "status.json": {"state"},
    "metrics.jsonl": {"step", "split"},
    "branch.json": {"trunk", "step"},
    "attempts.jsonl": {"failure"},
    "spikes.jsonl": {"step", "loss", "z", "back_to", "skipped"},
    "cost.json": {"program"},
}
# Of these a float or an empty container is never a value.
KNOWN = NEEDED | {
    "attempts.jsonl": {"failure", "answer", "step"},
    "spikes.jsonl": {"step", "back_to", "skipped"},
}
HARMS = (empty, truncated, random_bytes, overwritten, wrong_type, missing_key, a_folder)


def _is_missed(name, harm):
    """Whether readers go by what is gone: not by a cost, and an empty list is a list."""
    return name != "cost.json" and (
        harm is not empty or name not in ("attempts.jsonl", "spikes.jsonl")
    )


def look(workdir):
    """What a person sees of a workdir: status, dry run, reasons, table."""
    return (
        "\n".join(status_lines(workdir)),
        preview.table(CONFIGS, workdir, devices=1),
        why.text(why.reasons(CONFIGS, workdir)),
        table(workdir),
    )


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", FILES)
def test_the_nine_others_go_on_and_the_file_is_named(ten, tmp_path, monkeypatch, name, harm):
    monkeypatch.setattr(preview, "needed_bytes", lambda config, devices: 1.0)  # traces the step
    rng = random.Random(f"{name} {harm.__name__}")
    for _ in range(2):
        workdir = tmp_path / str(rng.random())
        shutil.copytree(ten, workdir)
        run = RunDirectory.open(CONFIGS[VICTIM], workdir)
        harm(run.path / name, rng)
        status, dry, reasons, frame = look(workdir)
        jobs = plan(CONFIGS, workdir).jobs
        todo = [job for job in jobs if over(job, workdir) is None]
        others = frame[frame["name"] != run.path.name]
        assert len(others) == 9
        assert others["loss"].notna().all()
        fit = laws.fit(frame, "power_floor", laws.Options(x="params", bootstrap=0))
        if not _is_missed(name, harm):
            assert (fit.n, len(todo)) == (10, 0)
            continue
        assert (fit.n, len(todo)) == (9, 1)
        assert dict(zip(frame["name"], frame["status"], strict=True))[run.path.name] == "damaged"
        for text in (status, dry, reasons, frame.set_index("name").loc[run.path.name, "reason"]):
            assert f"{run.path / name} " in text
            assert "runs this run again" in text or "goes on with this run" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["config.json", pytest.param("spikes.jsonl", marks=pytest.mark.slow)]
)
def test_a_report_goes_on_with_the_others(ten, tmp_path, name):
    shutil.copytree(ten, tmp_path / "out")
    run = RunDirectory.open(CONFIGS[VICTIM], tmp_path / "out")
    random_bytes(run.path / name, random.Random(0))
    text = report(tmp_path / "out").read_text()
    assert "<dt>runs done</dt><dd>9 of 10</dd>" in text
    assert f"{run.path / name} is damaged" in text.replace(" line 1 ", " ")


@pytest.mark.parametrize("harm", HARMS)
def test_what_is_damaged_is_set_aside_and_the_run_goes_on(ten, tmp_path, harm):
    """As a training does: the lock, mend, start, drop later lines, write the state."""
    rng = random.Random(harm.__name__)
    for name in FILES:
        workdir = tmp_path / name
        shutil.copytree(ten / "runs", workdir / "runs")
        config = CONFIGS[VICTIM]
        run = RunDirectory.open(config, workdir)
        (run.path / "checkpoints").mkdir()
        before = run.intact()[0]
        harm(run.path / name, rng)
        damaged = None if (run.path / name).is_dir() else (run.path / name).read_bytes()
        known = run.intact()[0]
        assert (run.status()["state"] == "damaged") == _is_missed(name, harm)
        # What a kill can leave is dropped, as after a kill.
        aside = _is_missed(name, harm) and (harm not in (empty, truncated) or name[0] != "m")
        with run.lock():
            said = run.mend()
            run.start(config, provenance() | {"device_kind": "cpu", "device_count": 1})
            run.truncate(20)
            run.append(*(line for line in before if line["step"] == 20))
            run.write_status("done", step=20, steps=20)
        assert run.status()["state"] == "done"
        assert run.config() == config
        assert bool(said) == aside
        assert [line for line in known if line["step"] < 20] == [
            line for line in run.metrics() if line["step"] < 20
        ]
        kept = list(run.path.glob(f"{name}.damaged*"))
        assert len(kept) == aside
        assert not aside or damaged is None or kept[0].read_bytes() == damaged
        anew = aside and name == "spikes.jsonl"
        assert (run.path / "checkpoints").exists() == (not anew)


def test_a_damaged_line_far_from_the_end_leaves_the_result_and_is_named(tmp_path):
    config = resolved()
    run = RunDirectory.open(config, tmp_path)
    run.start(config, provenance())
    run.append({"step": 1, "split": "train", "loss": "x"})
    run.append(*({"step": n, "split": "train", "loss": 3.0} for n in range(2, 5000)))
    finished(config, tmp_path, loss=2.0)
    assert table(tmp_path)["loss"].tolist() == [2.0]
    assert "metrics.jsonl line 1 is damaged" in report(tmp_path).read_text()
    with pytest.raises(DamagedError, match=r"metrics\.jsonl line 1 is damaged \(loss is 'x'\)"):
        run.metrics()


def test_a_file_of_a_run_that_is_trained_now_is_its_own_matter(tmp_path):
    config = resolved()
    run = finished(config, tmp_path, loss=2.0)
    with run.lock():
        run.write_status("running", step=5, steps=20)
        (run.path / "status.json").write_bytes(b"")
        assert run.status()["state"] == "running"
    assert run.status()["state"] == "damaged"


def test_every_planned_run_is_looked_at_once(ten):
    assert [over(job, ten)[0].status for job in each(CONFIGS)] == ["done"] * 10


@pytest.mark.slow
def test_a_training_sets_what_is_damaged_aside_and_ends_as_the_undamaged_one(tiny, tmp_path):
    config = tiny()
    assert train(config, tmp_path, quiet=True).status == "done"
    run = RunDirectory.open(config, tmp_path)
    before, rng = run.metrics(), random.Random(0)
    (run.path / "config.json").write_text("{")
    (run.path / "status.json").write_text("")
    lines = (run.path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run.path / "metrics.jsonl").write_bytes(b"".join([*lines[:-1], rng.randbytes(40), b"\n"]))
    assert run.status()["state"] == "damaged"
    assert train(config, tmp_path, quiet=True).status == "done"
    assert run.status()["state"] == "done"
    assert run.config() == config
    without_clock = [
        [{k: v for k, v in line.items() if not k.startswith("time/")} for line in found]
        for found in (before, run.metrics())
    ]
    # The evaluation that was gone is computed again from the last state.
    assert without_clock[0] == without_clock[1]
    assert {path.name for path in run.path.glob("*.damaged")} == {
        *("config.json.damaged", "status.json.damaged", "metrics.jsonl.damaged"),
    }
    found = table(tmp_path)
    assert found["status"].tolist() == ["done"]
    assert found["loss"].notna().all()
