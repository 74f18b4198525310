"""What a tracker has not been told of yet, sent: of runs that are being trained, and of ended ones.

`Sender` looks at the run directories of a workdir and tells one tracker what is new; how far it is
stands in each run's `sync/<tracker>.json`, so that the next process goes on from there. A line is
sent at least once: a kill may repeat what was sent last. Called by `follow.py`, again and again,
and by `launch.py sync`, once.
"""

import contextlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from etils import epath

from scaling import files
from scaling.config import flat
from scaling.errors import BusyError
from scaling.records import RunDirectory, find_runs, notes, strict_json
from scaling.trackers import About, Rows, Session, opened


@dataclass(frozen=True)
class Sent:
    """How far a tracker has been told of a run."""

    step: int = -1
    splits: tuple[str, ...] = ()  # of that step
    state: str | None = None  # that was told as the end of the run so far
    place: str = ""  # of the tracker


def rows_after(lines: Sequence[Mapping[str, Any]], sent: Sent) -> tuple[Rows, Sent]:
    """Of the lines of `metrics.jsonl` those that are new, as "split/metric" by step, and how far a
    tracker is when it has them. A run that went back computes the steps up to `sent` again; they
    are not sent twice.
    """
    rows: dict[int, dict[str, float]] = {}
    for line in lines:
        step, split = line["step"], line["split"]
        if step < sent.step or (step == sent.step and split in sent.splits):
            continue
        numbers = {
            f"{split}/{name}": float(value)
            for name, value in line.items()
            if name != "step" and isinstance(value, int | float) and not isinstance(value, bool)
        }
        rows.setdefault(step, {}).update(numbers)
    if not rows:
        return [], sent
    last = max(rows)
    there = sent.splits if last == sent.step else ()
    splits = dict.fromkeys((*there, *(name.partition("/")[0] for name in rows[last])))
    return sorted(rows.items()), replace(sent, step=last, splits=tuple(splits), state=None)


class Sender:
    """The runs of a workdir, on their way to one tracker."""

    def __init__(
        self,
        workdir: epath.PathLike,
        tracker: str,
        place: str = "",
        group: str | None = None,
        names: Collection[str] | None = None,
    ):
        """
        Args:
          workdir: where the run directories are.
          tracker: key of `TRACKERS`.
          place: of the tracker, as it takes it.
          group: the study's name.
          names: of the runs; None: all.
        """
        self._workdir, self._tracker, self._place = epath.Path(workdir), tracker, place
        self._group, self._names = group, names
        self._open: dict[str, _OneRun] = {}
        self.told = 0  # runs of which everything was sent

    def look(self, last: bool = False) -> list[str]:
        """Sends what is new; gives a sentence for each run that could not be sent, which is tried
        again at the next look. With `last` nothing stays open.
        """
        wrong = []
        for run in find_runs(self._workdir):
            name = run.path.name
            if self._names is not None and name not in self._names:
                continue
            try:
                one = self._open.get(name) or self._begin(run)
                if one is not None and one.look(last):
                    del self._open[name]
                    self.told += 1
            except BusyError:
                continue  # somebody else tells the same tracker of it
            # Whatever a package raises, the others go on.
            except Exception as error:
                wrong.append(f"{name}: {self._tracker}: {type(error).__name__}: {error}")
                if (broken := self._open.pop(name, None)) is not None:
                    broken.drop()
        return wrong

    def _begin(self, run: RunDirectory) -> "_OneRun | None":
        """None where there is nothing to be sent."""
        one = _OneRun(run, self._tracker, self._place)
        if not one.is_behind():
            return None
        folder = files.local_folder(files.absolute(self._workdir), "trackers") / self._tracker
        record = run.record()
        config = {k: v for k, v in flat(run.config(record)).items() if v is not None}
        tags = notes.read(run).tags
        about = About(record["fingerprint"], run.path.name, self._group, config, tags, str(folder))
        one.open(about)
        self._open[run.path.name] = one
        return one


class _OneRun:
    def __init__(self, run: RunDirectory, tracker: str, place: str):
        self._run, self._tracker = run, tracker
        self._file = run.path / "sync" / f"{tracker}.json"
        self._held = contextlib.ExitStack()
        self._session: Session | None = None
        self._sent = self._read(place)
        self._kept = self._sent  # what is surely with the tracker

    def _read(self, place: str) -> Sent:
        try:
            values = json.loads(self._file.read_text())
            found = Sent(**{**values, "splits": tuple(values["splits"])})
        except (OSError, ValueError, TypeError, KeyError):
            return Sent(place=place)
        return found if found.place == place else Sent(place=place)

    def _new(self) -> tuple[Rows, Sent, str]:
        state = self._run.status().get("state", "stopped")
        rows, sent = rows_after(self._run.intact()[0], self._sent)
        return rows, sent, state

    def is_behind(self) -> bool:
        """Whether there is something to be sent."""
        rows, _, state = self._new()
        return bool(rows) or (self._sent.step >= 0 and state not in ("running", self._sent.state))

    def open(self, about: About) -> None:
        """Raises BusyError where another process does the same, and what the tracker raises."""
        files.make_directory(self._file.parent)
        try:
            self._held.enter_context(files.exclusive(self._file.with_suffix(".lock"), wait=0.0))
            self._sent = self._kept = self._read(self._sent.place)
            self._session = opened(self._tracker, about, self._sent.place)
        except BaseException:
            self._held.close()
            raise

    def look(self, last: bool) -> bool:
        """Sends what is new; gives whether the run has ended, and its session with it."""
        assert self._session is not None
        # What was handed over at the look before is out of the package's own queue by now.
        self._write(self._sent)
        rows, sent, state = self._new()
        if rows:
            self._session.log(rows)
        self._sent = sent
        if state == "running" and not last:
            return False
        self._session.close(state)
        self._write(replace(sent, state=None if state == "running" else state))
        self._held.close()
        return True

    def _write(self, sent: Sent) -> None:
        if sent != self._kept:
            self._kept = sent
            files.write_atomic(self._file, strict_json.encode(asdict(sent)))

    def drop(self) -> None:
        """Of a session that raised: the next one goes on from what is surely sent."""
        self._held.close()
