"""`--track` of `train` and `sweep`, and `launch.py sync`, which sends what a tracker has missed."""

import contextlib
import io
from collections.abc import Collection

from absl import flags
from etils import epath

from scaling.commands.command import (
    FLAGS,
    Command,
    check_file,
    experiment_flag,
    no_workdir,
    reachable_workdir,
    workdir_flag,
)
from scaling.commands.tables import given_study
from scaling.errors import FAILED, UserError


def track_flag() -> None:
    """--track."""
    flags.DEFINE_string("track", None, "csv, wandb, mlflow, trackio, with commas; wandb:offline")


def check() -> None:
    """Raises UserError for a --track that cannot be: before anything is trained."""
    from scaling.trackers import parsed

    if FLAGS.track:
        parsed(FLAGS.track)


def tracked(
    group: str | None, names: Collection[str], workdir: epath.PathLike
) -> contextlib.AbstractContextManager[None]:
    """While this is open, the trackers of --track are told of the runs of these names."""
    if not FLAGS.track or not names:
        return contextlib.nullcontext()
    from scaling.trackers import parsed
    from scaling.trackers.follow import following

    return following(parsed(FLAGS.track), workdir, group, names)


def _sync_flags() -> None:
    workdir_flag()
    experiment_flag()
    track_flag()


def _sync() -> int:
    from scaling.config import run_name
    from scaling.studies import study
    from scaling.trackers import parsed
    from scaling.trackers.sync import Sender

    check_file("experiment")
    if FLAGS.track is None:
        raise UserError("sync: give --track, e.g. --track=wandb")
    trackers = parsed(FLAGS.track)
    if not reachable_workdir():
        raise no_workdir()
    names = group = None
    if FLAGS.experiment:
        plan = given_study()
        names, group = {run_name(config) for config in study.runs(plan)}, plan.name
    code = 0
    for tracker, place in trackers:
        sender = Sender(FLAGS.workdir, tracker, place, group, names)
        with contextlib.redirect_stdout(io.StringIO()):  # packages have much to say
            wrong = sender.look(last=True)
        failed = f", and not of {len(wrong)}:" if wrong else ""
        print(f"{tracker}: told what was new of {sender.told} runs{failed}")
        for text in wrong:
            print(f"  {text}")
        code = FAILED if wrong else code
    return code


COMMANDS = {
    "sync": Command(
        "send to a tracker what it has not got of runs that are there",
        """Tell trackers of the runs of a workdir, or of a study: what is new since the last time.

  python launch.py sync --track=csv
  python launch.py sync --track=mlflow --experiment=experiments/quickstart.py
  python launch.py sync --track=wandb:offline --workdir=out

`train` and `sweep` do the same while they train, with the same --track.""",
        _sync_flags,
        _sync,
    ),
}
