"""Tags and notes, the archive and the trash: what people do with runs that are there."""

import threading
import time

import pytest

from scaling.commands import COMMANDS
from scaling.commands.parsing import parse
from scaling.errors import BusyError, UserError
from scaling.records import RunDirectory, find_runs, notes, shelf
from scaling.records.tables import table
from tests.test_flags import forget
from tests.written import finished, resolved, started


@pytest.fixture
def workdir(tmp_path):
    for width in (8, 16, 24):
        run = finished(resolved(model__width=width, model__heads=2), tmp_path, loss=40 / width)
        for step in (10, 20):
            (run.path / "checkpoints" / str(step)).mkdir(parents=True)
            (run.path / "checkpoints" / str(step) / "state").write_bytes(b"0" * 100)
    return tmp_path


@pytest.fixture
def said(workdir, capsys):
    """`said(*argv)`: what a command says of the workdir."""

    def run(*argv: str) -> str:
        forget()
        command, _ = parse([*argv, f"--workdir={workdir}"], COMMANDS)
        command.run()
        return capsys.readouterr().out

    yield run
    forget()


def files_of(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_tags_and_notes_are_added_taken_off_and_chosen_by(workdir, said):
    said("tag", "--where=width>=16", "--add=good,paper", "--note=first")
    said("tag", "--where=width>16", "--remove=good", "--note=second")
    frame = table(workdir).set_index("width")
    assert frame["tags"].fillna("").to_dict() == {8: "", 16: "good,paper", 24: "paper"}
    assert frame["note"].fillna("").to_dict() == {8: "", 16: "first", 24: "second"}
    for where, widths in (
        ("tag=='good'", {16}),
        ("tag=='paper' and width>16", {24}),
        ("tag!='good'", {8, 24}),  # and those without any
        ("tag is None", {8}),
    ):
        listed = said("runs", f"--where={where}", "--columns=width").split()
        assert {int(word) for word in listed[1:-2]} == widths, where
    with pytest.raises(UserError, match="without commas and quotes"):
        notes.write(find_runs(workdir)[0], add=["a'b"])


def test_a_dry_run_touches_nothing_and_what_is_deleted_comes_back_whole(workdir, said):
    before = files_of(workdir)
    for command in ("archive", "delete", "retain"):
        assert "--yes does it" in said(
            command, "--where=width<24", *["--keep=0"][command != "retain" :]
        )
    assert files_of(workdir) == before
    said("delete", "--where=width<24", "--yes")
    assert list(table(workdir)["width"]) == [24]
    assert "2 runs" in said("runs", "--shelf=trash")
    said("restore", "--where=width<24", "--yes")
    after = files_of(workdir)
    kept = {n: b for n, b in after.items() if not n.endswith(("notes.jsonl", "lock"))}
    assert kept == {n: b for n, b in before.items() if not n.endswith("lock")}


def test_a_run_that_was_trained_again_displaces_nothing(workdir):
    run = find_runs(workdir)[0]
    shelf.move(run, "trash")
    again = finished(run_config := resolved(model__width=16, model__heads=2), workdir, loss=3.0)
    assert RunDirectory.open(run_config, workdir).path == again.path == run.path
    trash = workdir / "trash"
    second = shelf.move(again, "trash")
    assert {p.name for p in trash.iterdir()} == {run.path.name, second.path.name}
    shelf.move(second, shelf.RUNS)
    with pytest.raises(UserError, match="is there again"):
        shelf.move(RunDirectory(trash / run.path.name), shelf.RUNS)
    with pytest.raises(UserError, match="not in the trash"):
        shelf.remove(again)


def test_what_is_trained_or_needed_stays(workdir, said):
    going = started(resolved(seed=7), workdir)
    with going.lock(), pytest.raises(BusyError, match="in use by process"):
        shelf.move(going, "trash")
    parent = find_runs(workdir)[1]
    going.write_branch(parent.path.name, step=10)
    with pytest.raises(UserError, match="which is not done; choose both"):
        said("delete", str(parent.path), "--yes")
    assert "1 that runs which are not done begin with" in said(
        "retain", "--where=width>0", "--keep=0"
    )
    assert "1 not done" in said("retain", "--where=width>0", "--keep=1", "--yes")
    steps = {run.path: [*shelf.spare(run, 0)] for run in find_runs(workdir)}
    assert steps == {r: [] if r == going.path else [r / "checkpoints" / "20"] for r in steps}


def test_who_waits_for_a_lock_does_not_train_a_run_that_is_moved_away_meanwhile(workdir):
    """The lock's file is opened before the run is moved, and free only afterwards."""
    run, ended = find_runs(workdir)[0], list[str]()

    def train() -> None:
        try:
            with run.lock():
                ended.append("trained")
        except UserError as error:
            ended.append(str(error))

    thread = threading.Thread(target=train)
    with run.lock():
        thread.start()
        time.sleep(0.2)
        (workdir / "trash").mkdir()
        run.path.rename(workdir / "trash" / run.path.name)
    thread.join()
    assert ended != ["trained"]
    assert "cannot write" in ended[0]
