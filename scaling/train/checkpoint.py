"""Checkpoints of the train state, through orbax: asynchronous, atomic, restorable on any mesh.

A checkpoint is {state, identity}: the state's arrays, and a small JSON that says whose state it is.
Nothing else is needed to go on, because the data are a function of the step. Used by the loop and
by the command `generate`.
"""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from scaling import files
from scaling.config import RunConfig, fingerprint, to_identity
from scaling.devices.distributed import gather, peer_lost
from scaling.errors import CheckpointError
from scaling.train.failures import classify
from scaling.train.hush import hush
from scaling.train.rhythm import kept
from scaling.train.state import TrainState

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run, newest last; a context manager that waits for pending saves."""

    def __init__(self, path: epath.PathLike, config: RunConfig):
        # Orbax takes absolute paths only.
        self._path, self._config = files.absolute(path), config
        hush()
        self._manager = ocp.CheckpointManager(
            self._path,
            item_names=("state", "identity"),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_Kept(config),
                enable_async_checkpointing=True,
                # Where processes wait for each other in a save: several runs may be saved at once.
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    barrier_sync_key_prefix=self._path.parent.name
                ),
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None and peer_lost(error):
            return  # a save that waits for a process that is gone would never end
        if error is None:
            self._manager.close()
            return
        with contextlib.suppress(Exception):  # what failed before may be why a save fails now
            self._manager.close()
        self._manager = None  # with the frames that the error holds

    def clean(self) -> None:
        """Remove what a process that was killed in a save left: its temporary folder is partial.

        For the process that holds the run's lock; to another one it may be a save in progress.
        """
        drop_partial(self._path)

    def save(self, step: int, state: TrainState, losses: Sequence[float] | None = None) -> None:
        """Start saving; returns when the state may be donated, not when it is on disk.

        `losses`: of the last steps, where the next ones are compared with them (`spikes.py`).
        """
        if step in self._manager.all_steps():
            return
        identity: dict[str, Any] = {
            "fingerprint": fingerprint(self._config),
            "model": to_identity(self._config.model),
        }
        if losses is not None:
            identity["losses"] = list(losses)
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), identity=ocp.args.JsonSave(identity)
            ),
        )

    def check(self) -> None:
        """Raise what a save met that was under way."""
        self._manager.check_for_errors()

    def any(self) -> bool:
        """Whether there is a checkpoint, readable or not."""
        return bool(self._manager.all_steps())

    def wait(self) -> None:
        """Until every save is on disk."""
        self._manager.wait_until_finished()

    def restore(self, abstract: TrainState) -> TrainState | None:
        """The newest state that can be read, laid out as `abstract` says; None when there is none.

        A damaged one is set aside as `<step>.unreadable`, with a warning, and the one before it is
        tried: the steps between them are computed again. Raises CheckpointError when the checkpoint
        is another model's, and whatever says nothing of the checkpoint (`damaged`): the next
        attempt may read it.
        """
        # What process 0 sees, and what one of the processes cannot read, hold for all of them.
        steps = gather(sorted(self._manager.all_steps(), reverse=True))[0]
        for step in steps:
            state, problem, met = None, None, None
            try:
                state = load(self._path / str(step), abstract, self._config)
            except CheckpointError:
                raise
            except Exception as error:
                met, lines = error, str(error).splitlines() or [""]
                problem = {"text": f"{type(error).__name__}: {lines[0]}", "damaged": damaged(error)}
            problems = [p for p in gather(problem) if p is not None]
            for other in problems:
                if not other["damaged"]:
                    raise met if other == problem and met else RuntimeError(other["text"])
            if not problems:
                return state
            self._set_aside(step, problems[0]["text"])
        if steps:
            log.warning("no checkpoint in %s can be read; starting from step 0", self._path)
        return None

    def losses(self, step: int) -> list[float] | None:
        """The losses that were saved with the state after `step` updates."""
        path = self._path / str(step) / "identity"
        return ocp.JsonCheckpointHandler().restore(path).get("losses") if path.exists() else None

    def drop_after(self, step: int) -> None:
        """Remove every checkpoint later than `step`; every process calls this."""
        self.wait()
        later = gather([s for s in self._manager.all_steps() if s > step])[0]
        if jax.process_index() == 0:
            for s in later:
                (self._path / str(s)).rmtree()
        gather(None)
        self._manager.reload()

    def _set_aside(self, step: int, problem: str) -> None:
        bad = self._path / f"{step}.unreadable"
        log.warning(
            "checkpoint %s cannot be read (%s); set aside as %s, trying the one before",
            self._path / str(step),
            problem,
            bad.name,
        )
        if jax.process_index() == 0:
            if bad.exists():
                bad.rmtree()
            (self._path / str(step)).rename(bad)
        gather(None)
        self._manager.reload()  # or it would take the step for saved when it is reached again


@dataclass(frozen=True)
class _Kept(ocp.checkpoint_managers.PreservationPolicy):
    """`rhythm.kept`, as orbax asks for it."""

    config: RunConfig

    def should_preserve(
        self,
        checkpoints: Sequence[ocp.checkpoint_managers.PolicyCheckpointInfo],
        *,
        context: ocp.checkpoint_managers.PreservationContext,
    ) -> list[bool]:
        """Of each checkpoint, whether it stays."""
        keep = kept([checkpoint.step for checkpoint in checkpoints], self.config)
        return [checkpoint.step in keep for checkpoint in checkpoints]


def damaged(error: Exception) -> bool:
    """Whether what reading a checkpoint raised speaks of the checkpoint itself.

    Orbax and tensorstore raise errors of many kinds for a damaged one. But memory that is lacking,
    a network that is gone, and a system that refuses to read say nothing of what is in the files.
    """
    missing = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
    if isinstance(error, OSError) and not isinstance(error, missing):
        return False
    return classify(error) not in ("memory", "lost", "disk")


def drop_partial(path: epath.Path) -> None:
    """Remove the folders of saves that did not come to their end."""
    for left in path.glob("*.orbax-checkpoint-tmp*"):
        left.rmtree()


def steps(path: epath.Path) -> list[int]:
    """The steps of the checkpoints in a run's folder, ascending, without opening one."""
    names = [p.name for p in path.iterdir()] if path.exists() else []
    return sorted(int(name) for name in names if name.isdigit())


def load(path: epath.Path, abstract: TrainState, config: RunConfig) -> TrainState:
    """The state of one checkpoint, laid out as `abstract` says. What orbax and tensorstore raise
    for a damaged one passes through; raises CheckpointError when it is another model's.
    """
    # Not by the manager, which waits for the other processes when it has read: for ever, if one of
    # them cannot.
    path = files.absolute(path)
    identity = ocp.JsonCheckpointHandler().restore(path / "identity")
    check_identity(path, identity, config)
    handler = ocp.StandardCheckpointHandler()
    return handler.restore(path / "state", args=ocp.args.StandardRestore(abstract))


def check_identity(path: epath.Path, identity: dict[str, Any], config: RunConfig) -> None:
    """Raise CheckpointError, naming the fields, when a checkpoint is not this model's."""
    theirs, ours = identity["model"], to_identity(config.model)
    differ = [
        f"model.{key} is {theirs.get(key)!r} there and {ours[key]!r} here"
        for key in ours
        # A field that came later stood at its default.
        if key in theirs and theirs[key] != ours[key]
    ]
    if differ:
        raise CheckpointError(
            f"checkpoint {path} is of another model: {'; '.join(differ)}. Use the config of its "
            "run "
            "(config.json beside it), or another workdir"
        )
