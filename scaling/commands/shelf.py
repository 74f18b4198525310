"""`launch.py runs`, `tag`, `archive`, `delete`, `restore` and `retain`: many people, one workdir.

What moves or removes says first what it would do, and does it with --yes.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from absl import flags

from scaling.commands.command import (
    FLAGS,
    Command,
    check_file,
    experiment_flag,
    given_run,
    no_workdir,
    reachable_workdir,
    workdir_flag,
)
from scaling.commands.tables import given_study
from scaling.errors import FAILED, UserError
from scaling.units import human

if TYPE_CHECKING:
    import pandas as pd

    from scaling.records import RunDirectory

_SHOWN = ("name", "status", "width", "params", "amount", "loss", "tags", "note")


def _choosing_flags() -> None:
    workdir_flag()
    experiment_flag()
    flags.DEFINE_string("where", None, "which runs: 'width>=64 and tag==\"good\"'")


def _chosen(shelf: str = "runs", least: bool = True) -> "tuple[list[RunDirectory], pd.DataFrame]":
    """The runs that the flags choose, and their table. Raises UserError where there are none, or,
    with `least`, where all would be chosen because no flag says which.
    """
    from scaling.config import run_name
    from scaling.laws.table import shape_table
    from scaling.records import tables
    from scaling.records.shelf import shelved
    from scaling.studies import study

    check_file("experiment")
    one = given_run("run") if "run" in FLAGS and FLAGS.run else None
    if least and one is None and not FLAGS.where and not FLAGS.experiment:
        raise UserError("say which runs: --where, --experiment, or one run's directory")
    if one is None and not reachable_workdir():
        raise no_workdir()
    found = [one] if one else shelved(FLAGS.workdir, shelf)
    if FLAGS.experiment:
        names = {run_name(config) for config in study.runs(given_study())}
        found = [run for run in found if run.path.name.partition("~")[0] in names]
    if not found:
        raise UserError(f"there is no such run in {FLAGS.workdir}/{shelf}")
    frame = tables.table(found)
    frame = frame.assign(**{name: None for name in ("tags", "note") if name not in frame})
    if FLAGS.where:
        frame = shape_table(frame, where=FLAGS.where)[0]
    by_name = {run.path.name: run for run in found}
    return [by_name[name] for name in frame["name"]], frame


def _words(flag: str) -> list[str]:
    """What a flag lists, with commas."""
    return [word.strip() for word in (FLAGS[flag].value or "").split(",") if word.strip()]


def _runs_flags() -> None:
    _choosing_flags()
    flags.DEFINE_enum("shelf", "runs", ["runs", "archive", "trash"], "what is listed")
    flags.DEFINE_string("sort", None, "column, e.g. loss")
    flags.DEFINE_string("columns", None, f"with commas; default: {','.join(_SHOWN)}")


def _runs() -> int:
    from scaling.errors import nearest
    from scaling.laws.outcome import show

    _, frame = _chosen(FLAGS.shelf, least=False)
    for flag in ("sort", "columns"):
        for name in _words(flag):
            if name not in frame:
                raise UserError(f"--{flag}={name} is no column{nearest(name, frame.columns)}")
    if FLAGS.sort:
        frame = frame.sort_values(FLAGS.sort)
    columns = _words("columns") or [c for c in _SHOWN if not frame[c].isna().all()]
    print(show(frame[columns]))
    print(f"\n{len(frame)} run{'s' if len(frame) != 1 else ''}")
    return 0


def _tag_flags() -> None:
    _choosing_flags()
    flags.DEFINE_string("run", None, "one run directory")
    flags.DEFINE_string("add", None, "tags, with commas")
    flags.DEFINE_string("remove", None, "tags, with commas")
    flags.DEFINE_string("note", None, "a sentence that is kept with the run")


def _tag() -> int:
    from scaling.records import notes

    runs, _ = _chosen()
    if not (FLAGS.add or FLAGS.remove or FLAGS.note):
        raise UserError("tag: give --add, --remove or --note")
    for run in runs:
        notes.write(run, _words("add"), _words("remove"), FLAGS.note)
        print(f"{run.path.name}: {', '.join(notes.read(run).tags) or 'no tags'}")
    return 0


def _moving_flags() -> None:
    _choosing_flags()
    flags.DEFINE_string("run", None, "one run directory")
    flags.DEFINE_bool("yes", False, "do it; without it, only say what would be done")


def _each(
    runs: "list[RunDirectory]", what: str, act: Callable[["RunDirectory"], object], size: int
) -> int:
    """What is done to each run, or would be; one that cannot be is named, and the others go on."""
    said = f"{len(runs)} run{'s' if len(runs) != 1 else ''}" + (f", {human(size)}B" if size else "")
    if not FLAGS.yes:
        print("\n".join(run.path.name for run in runs))
        print(f"would {what}: {said}; --yes does it")
        return 0
    wrong = 0
    for run in runs:
        try:
            act(run)
        except UserError as error:
            wrong += 1
            print(f"left as it is: {error}")
    print(f"{what}: {len(runs) - wrong} of {said}")
    return FAILED if wrong else 0


def _put_aside(shelf: str, what: str) -> int:
    from scaling.records import find_runs
    from scaling.records import shelf as shelves

    runs, _ = _chosen()
    workdir = runs[0].path.parent.parent
    for run, names in shelves.needed(runs, find_runs(workdir)).items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise UserError(
            f"{run.path.name} is what {names[0]}{more} begins with, which is not done; choose both"
        )
    size = sum(shelves.size(run.path) for run in runs)
    return _each(runs, f"{what} to {workdir / shelf}", lambda run: shelves.move(run, shelf), size)


def _archive() -> int:
    return _put_aside("archive", "move")


def _delete_flags() -> None:
    _moving_flags()
    flags.DEFINE_bool("trash", False, "remove runs that are in the trash, for good")


def _delete() -> int:
    from scaling.records import shelf as shelves

    if not FLAGS.trash:
        return _put_aside("trash", "move")
    runs, _ = _chosen("trash")
    size = sum(shelves.size(run.path) for run in runs)
    return _each(runs, "remove for good", shelves.remove, size)


def _restore_flags() -> None:
    _moving_flags()
    flags.DEFINE_enum("shelf", "trash", ["archive", "trash"], "where they are")


def _restore() -> int:
    from scaling.records import shelf as shelves

    runs, _ = _chosen(FLAGS.shelf)
    return _each(runs, "move back", lambda run: shelves.move(run, shelves.RUNS), 0)


def _retain_flags() -> None:
    _moving_flags()
    flags.DEFINE_integer("keep", 1, "checkpoints that stay, the newest; 0: none", lower_bound=0)


def _retain() -> int:
    from scaling.records import find_runs
    from scaling.records import shelf as shelves

    chosen, _ = _chosen()
    runs = [run for run in chosen if run.is_done and [*shelves.spare(run, FLAGS.keep)]]
    others = [run for run in chosen if not run.is_done]
    if others:
        print(f"left as they are: {len(others)} not done, which go on from their checkpoints")
    if FLAGS.keep == 0:
        # Whoever begins with a run reads its last checkpoint.
        wanted = shelves.needed(runs, find_runs(chosen[0].path.parent.parent))
        if wanted:
            print(f"left as they are: {len(wanted)} that runs which are not done begin with")
        runs = [run for run in runs if run not in wanted]
    size = sum(shelves.size(path) for run in runs for path in shelves.spare(run, FLAGS.keep))
    newest = f" but the newest {FLAGS.keep}" if FLAGS.keep else ""
    what = f"remove all checkpoints{newest}"
    return _each(runs, what, lambda run: shelves.retain(run, FLAGS.keep), size)


_WHICH = """

Runs are chosen by --where (columns of the table; `tag` is each of a run's tags), by --experiment,
or by one directory. Without --yes nothing is done."""

COMMANDS = {
    "runs": Command(
        "list runs: --where, tags, notes",
        """List the runs of a workdir, or those on a shelf.

  python launch.py runs --where='width>=16 and status=="done"' --sort=loss
  python launch.py runs --where='tag=="good"' --columns=name,loss,optim.peak_lr
  python launch.py runs --shelf=trash""",
        _runs_flags,
        _runs,
    ),
    "tag": Command(
        "give runs, or all of a study, tags and notes",
        """Tags and notes of runs; both are columns of every table.

  python launch.py tag out/runs/<name> --add=good,paper --note='the one of figure 3'
  python launch.py tag --experiment=experiments/quickstart.py --add=first-try
  python launch.py tag --where='tag=="paper"' --remove=paper""",
        _tag_flags,
        _tag,
        arguments=("run",),
    ),
    "archive": Command(
        "put runs aside: out of lists and tables, kept for good",
        f"""Move runs from runs/ to archive/. `restore --shelf=archive` takes them back.

  python launch.py archive --where='tag=="old"'
  python launch.py archive --where='tag=="old"' --yes{_WHICH}""",
        _moving_flags,
        _archive,
        arguments=("run",),
    ),
    "delete": Command(
        "put runs in the trash, or remove what is in it",
        f"""Move runs from runs/ to trash/; with --trash remove those that are there, for good.

  python launch.py delete --where='status=="failed"'
  python launch.py delete --where='status=="failed"' --yes
  python launch.py delete --trash --where='loss>5' --yes{_WHICH}""",
        _delete_flags,
        _delete,
        arguments=("run",),
    ),
    "restore": Command(
        "take runs back from the trash, or from the archive",
        f"""Move runs back to runs/.

  python launch.py restore --where='loss<3' --yes
  python launch.py restore --shelf=archive --where='tag=="old"' --yes{_WHICH}""",
        _restore_flags,
        _restore,
        arguments=("run",),
    ),
    "retain": Command(
        "remove checkpoints of runs that are done",
        f"""Remove the checkpoints of runs that are done, but for the newest --keep.

  python launch.py retain --where='width<64'
  python launch.py retain --experiment=experiments/quickstart.py --keep=0 --yes{_WHICH}

While a run trains, config.train.keep_checkpoints says how many stay.""",
        _retain_flags,
        _retain,
        arguments=("run",),
    ),
}
