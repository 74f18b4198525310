"""Files that survive a kill: atomic writes, whole-line appends, and the lock on a directory.

Takes paths and bytes; every OSError on the way becomes a UserError that names the path and the way
out. Called by every room that writes. Works on local disks and, through `etils.epath`, on object
stores, where putting an object is atomic and locks do not exist. No jax.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import secrets
import shutil
import socket
import time
from collections.abc import Iterator

from etils import epath

from scaling.errors import BusyError, DiskFullError, StorageError
from scaling.units import human

DATA_DIR = "SCALING_DATA_DIR"
_FULL = 2**16  # bytes, with less of which a file system has no room for a run's lines
_STALE = 3600.0  # seconds after which a temporary file belongs to nobody


def data_dir() -> pathlib.Path:
    """The user's folder for what every workdir profits from, prepared data above all:
    $SCALING_DATA_DIR, or ~/.cache/scaling.
    """
    return pathlib.Path(os.environ.get(DATA_DIR) or "~/.cache/scaling").expanduser().absolute()


def is_local(path: epath.PathLike) -> bool:
    """False for gs://, s3:// and the like."""
    return "://" not in os.fspath(path)


def absolute(path: epath.PathLike) -> epath.Path:
    """With the current directory before it, if it is a local path and needs one. (`resolve` of a
    path on an object store would make it a local one.)
    """
    return epath.Path(path).resolve() if is_local(path) else epath.Path(path)


def local_folder(workdir: epath.PathLike, name: str) -> pathlib.Path:
    """A folder for what must be on the local disk, made: below the workdir, or where that is on an
    object store, below the current directory.
    """
    folder = pathlib.Path(os.fspath(workdir) if is_local(workdir) else ".", name)
    make_directory(folder)
    return folder


def upload(folder: pathlib.Path, place: epath.PathLike) -> None:
    """Copy every file below a local folder to the same place below `place`; what is there is
    replaced.
    """
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        target = epath.Path(place) / file.relative_to(folder).as_posix()
        make_directory(target.parent)
        write_atomic(target, file.read_bytes())


@contextlib.contextmanager
def named_errors(path: epath.PathLike) -> Iterator[None]:
    """An OSError inside becomes a StorageError that names the path and the way out."""
    try:
        yield
    except OSError as error:
        where = f"cannot write {os.fspath(path)}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"disk full: {where}: {error.strerror} ({space(path)}); free some space and run "
                "the same command again: it goes on where it stopped"
            ) from error
        raise StorageError(
            f"{where}: {error.strerror or error}; choose another --workdir or make this one "
            "writable"
        ) from error


def make_directory(path: epath.PathLike) -> None:
    """The directory and its parents. Raises UserError naming the path."""
    with named_errors(path):
        epath.Path(path).mkdir(parents=True, exist_ok=True)


def must_exist(path: epath.PathLike) -> None:
    """Raise StorageError for a local file or directory that is gone."""
    if is_local(path):
        with named_errors(path):
            os.stat(path)


def write_atomic(path: epath.PathLike, data: bytes) -> None:
    """The whole of `data` at `path`, or what was there before; never a part of it.

    Raises UserError naming the path when the disk is full or the place is not writable.
    """
    path = epath.Path(path)
    with named_errors(path):
        if not is_local(path):
            path.write_bytes(data)  # an object appears when its upload is complete
            return
        # Of this write alone: threads share a pid, and so do processes of several containers.
        temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}.tmp"
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def overwrite(path: epath.PathLike, data: bytes) -> None:
    """`data`, with blanks behind it, in place of what is in a local file: for a disk that has no
    room for another file, as long as the blocks that this one has hold it. Raises StorageError.
    """
    with named_errors(path):
        descriptor = os.open(path, os.O_WRONLY)
        try:
            about = os.fstat(descriptor)
            if len(data) > 512 * about.st_blocks:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.pwrite(descriptor, data.ljust(about.st_size), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def space(path: epath.PathLike) -> str:
    """ "file system /data: 12kB of 4GB free"; an object store is named alone."""
    if not is_local(path):
        return os.fspath(path)
    place = os.path.realpath(os.fspath(path))
    while not os.path.exists(place):
        place = os.path.dirname(place)
    usage = shutil.disk_usage(place)
    while not os.path.ismount(place):
        place = os.path.dirname(place)
    return f"file system {place}: {human(usage.free)}B of {human(usage.total)}B free"


def trouble(folder: epath.PathLike) -> str | None:
    """Why nothing can be written to a local folder now, as far as can be seen from outside."""
    if not is_local(folder):
        return None
    if not os.access(folder, os.W_OK):
        return f"{os.fspath(folder)} is not writable"
    about = os.statvfs(folder)
    full = about.f_bavail * about.f_frsize < _FULL
    return f"disk full ({space(folder)})" if full else None


def drop_leftovers(folder: epath.PathLike) -> None:
    """Remove what writes that were killed an hour ago or earlier left in a folder: a write that is
    under way is younger.
    """
    if not is_local(folder):
        return
    with contextlib.suppress(OSError):
        for left in pathlib.Path(os.fspath(folder)).glob(".*.tmp"):
            if time.time() - left.stat().st_mtime > _STALE:
                left.unlink()


def append(path: epath.PathLike, data: bytes) -> None:
    """`data` at the end of the file, handed to the kernel before this returns.

    A write that fails half-way is taken back. A kill in the middle can leave a part of `data`.
    Object stores cannot append: there the object is written anew. Raises UserError.
    """
    path = epath.Path(path)
    with named_errors(path):
        if not is_local(path):
            path.write_bytes((path.read_bytes() if path.exists() else b"") + data)
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        before = os.fstat(descriptor).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, before)
            raise
        finally:
            os.close(descriptor)


def tail(path: epath.PathLike, size: int) -> bytes:
    """The last `size` bytes of a file, or all of it; from an object store all of it."""
    if not is_local(path):
        return epath.Path(path).read_bytes()
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - size))
        return file.read()


@contextlib.contextmanager
def exclusive(path: epath.PathLike, wait: float = 1.0) -> Iterator[None]:
    """Holds the lock file `path`; the kernel releases it when the process ends, however it ends.

    `wait`: seconds to try, so that a passing `is_held` of another process does no harm. Object
    stores have no locks: there this does nothing, and two writers are not kept apart.

    Raises BusyError naming the directory and the process that holds it.
    """
    if not is_local(path):
        yield
        return
    descriptor = _locked(path, wait)
    try:
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _locked(path: epath.PathLike, wait: float) -> int:
    """A descriptor that holds the lock, of the file that is at `path` then: its directory may have
    been moved since the file was opened.
    """
    deadline = time.monotonic() + wait
    while True:
        with named_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _try_lock(descriptor, fcntl.LOCK_EX):
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                        return descriptor
            elif time.monotonic() > deadline:
                holder = os.pread(descriptor, 300, 0).decode().strip() or "unknown"
                raise BusyError(
                    f"{os.path.dirname(path)} is in use by process {holder}; wait for it to end, "
                    "or end it, then run the same command again"
                )
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(0.05)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(path: epath.PathLike) -> bool | None:
    """Whether a living process holds the lock file; None where that cannot be known. Asked by a
    shared lock, for which a file opened for reading will do on NFS too.
    """
    if not is_local(path):
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False if not os.path.exists(path) else None
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)
