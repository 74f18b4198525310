"""A process that tells one tracker of runs while they are trained, beside the training.

`start` begins one for each tracker and gives what ends them; `main` is such a process. It reads run
directories, has the lowest priority, and ends by itself when its standard input does: soon, or, if
its package hangs, after a grace. Called by `launch.py train` and `sweep`.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence

from etils import epath

from scaling import files
from scaling.place import python_path
from scaling.trackers.sync import Sender

_EVERY, _LATEST = 5.0, 300.0  # seconds between looks; at most, after looks that went wrong
left: list[subprocess.Popen[bytes]] = []  # that did not end in time; they will by themselves
_PATIENCE, _GRACE = 15.0, 120.0  # that a training waits at its end, and that a tracker then has


@dataclasses.dataclass(frozen=True)
class Followed:
    """What is told to whom: `Sender`'s arguments."""

    workdir: str
    tracker: str
    place: str
    group: str | None
    names: list[str]


@contextlib.contextmanager
def following(
    trackers: Sequence[tuple[str, str]],
    workdir: epath.PathLike,
    group: str | None,
    names: Collection[str],
) -> Iterator[None]:
    """While this is open, each tracker, (name, place), is told of the runs of these names. At its
    end it waits a little for what is still on its way, and says where it did not arrive.
    """
    started = []
    for tracker, place in trackers:
        told = Followed(str(files.absolute(workdir)), tracker, place, group, [*names])
        log = files.local_folder(workdir, "logs") / f"track-{tracker}.log"
        started.append((tracker, log, _begin(told, log)))
    try:
        yield
    finally:
        until = time.monotonic() + _PATIENCE
        for _, _, process in started:
            assert process.stdin is not None
            process.stdin.close()
        for tracker, log, process in started:
            try:
                if process.wait(max(0.0, until - time.monotonic())) == 0:
                    continue
            except subprocess.TimeoutExpired:
                left.append(process)
            print(
                f"{tracker} has not got everything ({log} says why); "
                f"launch.py sync --track={tracker} --workdir={os.fspath(workdir)} sends the rest",
                file=sys.stderr,
            )


def _begin(told: Followed, log: pathlib.Path) -> subprocess.Popen[bytes]:
    with files.named_errors(log), log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "scaling.trackers.follow", json.dumps(vars(told))],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            env={**os.environ, "PYTHONPATH": python_path()},
            start_new_session=True,  # Ctrl-C reaches the parent alone
        )


def main() -> None:
    """Look, again and again, until standard input ends; then once more."""
    told = Followed(**json.loads(sys.argv[1]))
    os.nice(19)
    ended = threading.Event()

    def read() -> None:
        sys.stdin.read()
        ended.set()
        threading.Event().wait(_GRACE)
        os._exit(1)  # a package that hangs

    threading.Thread(target=read, daemon=True).start()
    sender = Sender(told.workdir, told.tracker, told.place, told.group, set(told.names))
    every = _EVERY
    while not ended.wait(every):
        wrong = _look(sender, last=False)
        every = min(2 * every, _LATEST) if wrong else _EVERY
    wrong = _look(sender, last=True)
    # At once: threads of a package would be waited for.
    os._exit(bool(wrong))


def _look(sender: Sender, last: bool) -> list[str]:
    try:
        wrong = sender.look(last)
    except Exception as error:  # a folder that is gone for a moment, say
        wrong = [f"{type(error).__name__}: {error}"]
    for text in wrong:
        print(text, file=sys.stderr, flush=True)
    return wrong


if __name__ == "__main__":
    main()
