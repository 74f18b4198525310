"""Runs that are put aside, and taken back: `archive/` and `trash/` beside `runs/` in a workdir.

A run is moved as a whole, under its lock, so that none is moved from under a training; nothing is
removed but by `remove` and `retain`. Called by `scaling/commands/shelf.py`. No jax in this file.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from etils import epath

from scaling import files
from scaling.errors import DamagedError, UserError
from scaling.records import notes
from scaling.records.directory import RunDirectory

Shelf = Literal["archive", "trash"]
RUNS = "runs"


def shelved(workdir: epath.PathLike, shelf: str) -> list[RunDirectory]:
    """The runs on a shelf, by name."""
    folder = epath.Path(workdir) / shelf
    paths = sorted(folder.iterdir(), key=str) if folder.is_dir() else []
    return [RunDirectory(path) for path in paths if (path / "config.json").exists()]


def needed(
    runs: Sequence[RunDirectory], others: Iterable[RunDirectory]
) -> dict[RunDirectory, list[str]]:
    """Of these runs those that others, which are not among them and not done, begin with: and the
    names of those.
    """
    wanted: dict[str, list[str]] = {}  # a fingerprint or a name -> who
    chosen = {run.path.name for run in runs}
    for other in others:
        with contextlib.suppress(DamagedError):
            if other.path.name in chosen or other.is_done:
                continue
            begins = other.record()["config"].get("begins", {}).get("run")
            for parent in filter(None, (begins, other.branch().get("trunk"))):
                wanted.setdefault(parent, []).append(other.path.name)
    found = {}
    for run in runs:
        with contextlib.suppress(DamagedError):
            names = wanted.get(run.path.name, []) + wanted.get(run.record()["fingerprint"], [])
            if names:
                found[run] = names
    return found


def move(run: RunDirectory, shelf: str) -> RunDirectory:
    """Put a run on a shelf, or back among the runs (`RUNS`); gives its new directory.

    Raises UserError for a run that is being trained, a place that is taken, or an object store,
    where nothing can be moved at once.
    """
    if not files.is_local(run.path):
        raise UserError(
            f"{run.path}: on an object store a run cannot be moved as a whole; move its folder "
            f"with the store's own tool, to {shelf}/ beside {RUNS}/"
        )
    folder = run.path.parent.parent / shelf
    files.make_directory(folder)
    with run.lock():
        target = _free(folder, run.path.name) if shelf != RUNS else _back(folder, run.path.name)
        notes.write_move(run, shelf)
        with files.named_errors(target):
            os.rename(run.path, target)
    return RunDirectory(target)


def _free(folder: epath.Path, name: str) -> epath.Path:
    """A run that was put aside, trained again, and is put aside again has a number behind it."""
    names = (name, *(f"{name}~{n}" for n in range(2, 1000)))
    return next(folder / one for one in names if not (folder / one).exists())


def _back(folder: epath.Path, name: str) -> epath.Path:
    target = folder / name.partition("~")[0]
    if target.exists():
        raise UserError(f"{target} is there again; put it aside first, then restore {name}")
    return target


def size(folder: epath.Path) -> int:
    """Bytes of all files below a local folder; 0 on an object store, where nobody counts them."""
    if not files.is_local(folder):
        return 0
    return sum(
        os.lstat(os.path.join(at, name)).st_size
        for at, _, names in os.walk(folder)
        for name in names
    )


def remove(run: RunDirectory) -> None:
    """Remove a run from the trash, for good. Raises UserError for one that is elsewhere."""
    if run.path.parent.name != "trash":
        raise UserError(f"{run.path} is not in the trash; put it there first")
    with run.lock(), files.named_errors(run.path):
        run.path.rmtree()


def spare(run: RunDirectory, keep: int) -> Iterator[epath.Path]:
    """The checkpoints of a run that has ended, but for the newest `keep`, oldest first."""
    folder = run.path / "checkpoints"
    if not folder.is_dir():
        return
    steps = sorted((int(path.name), path) for path in folder.iterdir() if path.name.isdigit())
    for _, path in steps[: len(steps) - keep]:
        yield path


def retain(run: RunDirectory, keep: int) -> None:
    """Remove the checkpoints that `spare` gives, under the run's lock."""
    with run.lock():
        for path in [*spare(run, keep)]:
            with files.named_errors(path):
                path.rmtree()
