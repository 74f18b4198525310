"""What is said when a run's folder can no longer be written: disk full, not writable, or gone.

Takes what was raised on the way (by `scaling/files.py`, TensorBoard's writer or orbax, each in its
own words) and the run's directory; gives one error that says what, where, what was kept and how to
go on. Called by `loop.py` and `member.py`, which raise it and put it into status.json.
"""

import contextlib

import jax

from scaling import files
from scaling.errors import DiskFullError, StorageError, UserError
from scaling.records import RunDirectory, State
from scaling.train.checkpoint import drop_partial, steps
from scaling.train.failures import chain, storage_trouble


def explained(error: Exception, run: RunDirectory) -> Exception:
    """The error that says it for a person; `error` itself if it is not of this run's folder."""
    trouble, folders = storage_trouble(error), {str(run.path), str(files.absolute(run.path))}
    texts = [str(error), *(str(e.filename) for e in chain(error) if isinstance(e, OSError))]
    ours = any(folder in text for folder in folders for text in texts)
    if trouble == "full" and (ours or not isinstance(error, UserError)):
        over_quota = "quota" in f"{error}: {_system(error)}".lower()
        return DiskFullError(
            f"{'over the disk quota' if over_quota else 'disk full'}: {run.path} cannot be written "
            f"({files.space(run.path)}); {_kept(run)}; free some space and run the same command "
            f"again: {_goes_on(run)}"
        )
    if trouble == "denied" and ours:
        return StorageError(
            f"not writable: {run.path} ({_system(error)}); {_kept(run)}; make it writable and run "
            f"the same command again: {_goes_on(run)}"
        )
    # Orbax, which makes folders, says nothing clear of one that was taken from under it.
    taken = not isinstance(error, UserError) and not (run.path / "lock").exists()
    if (taken and files.is_local(run.path)) or (trouble == "missing" and ours):
        return StorageError(
            f"gone: the folder {run.path} is not there any more, or not whole; nothing was kept, "
            "unless it comes back (a disk to mount, a folder that was moved): then the same "
            "command goes on from its newest checkpoint, else it begins again at step 0"
        )
    return error


def write_end(run: RunDirectory, state: State, error: Exception) -> None:
    """The end of a run, and why, in status.json, as far as its folder takes it; process 0."""
    if isinstance(error, DiskFullError) and jax.process_count() == 1:
        with contextlib.suppress(OSError):
            drop_partial(run.path / "checkpoints")  # makes room
    gone = isinstance(error, StorageError) and not (run.path / "config.json").exists()
    with contextlib.suppress(UserError):
        if not gone:  # perhaps what is in its place now is another disk
            run.write_status(state, reason=reason(error))


def reason(error: Exception) -> str:
    """A UserError names itself; of others the class says most."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def _kept(run: RunDirectory) -> str:
    saved = steps(run.path / "checkpoints")
    return f"kept: the checkpoint of step {saved[-1]}" if saved else "kept: no checkpoint yet"


def _goes_on(run: RunDirectory) -> str:
    saved = steps(run.path / "checkpoints")
    return f"it goes on from step {saved[-1]}" if saved else "it begins at step 0"


def _system(error: Exception) -> str:
    """The system's word: "Read-only file system"."""
    words = [e.strerror for e in chain(error) if isinstance(e, OSError) and e.strerror]
    return (words or str(error).splitlines() or [type(error).__name__])[-1]
