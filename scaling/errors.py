"""The one error that a person is meant to read.

Every room raises `UserError` (or a subclass) when the cause lies outside the program: a key that
does not exist, a mesh that does not fit, a file that is not there. The message names the field or
file and the way out. `launch.py` prints it without a traceback and exits with 2; everything else
that is raised is a defect of ours and keeps its traceback.
"""

import difflib
from collections.abc import Iterable

# Exit codes. 75 is sysexits' "temporary failure": everything is saved, the same command goes on
# from there.
FAILED, BAD_INPUT, DIVERGED, RESUME_ME = 1, 2, 3, 75


class UserError(Exception):
    """Bad input; the message names the field or file and what to do."""


class ConfigError(UserError):
    """A config that cannot be a run."""


class DataError(UserError):
    """A corpus that is missing, empty or not the one that was asked for."""


class SourceError(DataError):
    """A source that cannot be read, or a part that it does not have.

    Whoever knows which group of the config named it says so (`resolve.source_named`): `member` is
    the field of that group that is at fault.
    """

    def __init__(self, message: str, member: str = "source"):
        super().__init__(" ".join(message.splitlines()))  # names of files may be anything
        self.member = member


class CheckpointError(UserError):
    """A checkpoint that cannot be restored."""


class DamagedError(UserError):
    """A file of a run's directory that cannot be read; the run is left out, or run again."""


class StorageError(UserError):
    """A folder that cannot be written: not writable, or gone."""


class DiskFullError(StorageError):
    """A file system, or a quota, without space."""


class BusyError(UserError):
    """A run directory that another living process writes to."""


def nearest(word: str, known: Iterable[str]) -> str:
    """' (did you mean "width"?)', or the list of what is known when nothing is near."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f' (did you mean "{close[0]}"?)' if close else f" (known: {', '.join(known)})"
