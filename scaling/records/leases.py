"""The lock of a run's directory on an object store: an object that its holder writes now and then.

Stores have no locks, but an object can be made only if it is not there. Whoever finds one watches
it: if it changes, its holder lives, and the run is in use; if it does not for a while, its holder
was killed, and it is taken over. No clocks of two machines are compared. Called by
`RunDirectory.lock`. A holder that cannot reach the store for so long loses its run to the next; it
says so.
"""

import contextlib
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from etils import epath

from scaling import files
from scaling.errors import BusyError

EVERY = 10.0  # seconds between writes of the holder
GONE = 60.0  # without one, after which it is taken for dead
SETTLE = 2.0  # in which two that take over at once see each other


@contextlib.contextmanager
def leased(path: epath.PathLike) -> Iterator[None]:
    """Holds the object `path`; after a kill it is free again `GONE` seconds later.

    Raises BusyError naming the directory and the process that holds it, within a few writes of it.
    """
    import fsspec  # what epath has for stores

    store, name = fsspec.url_to_fs(os.fspath(path))
    me = f"{os.getpid()} on {socket.gethostname()} {secrets.token_hex(8)}"
    with files.named_errors(path):
        _acquire(store, name, me, os.path.dirname(os.fspath(path)))
    ended = threading.Event()
    thread = threading.Thread(target=_renew, args=(store, name, me, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(Exception):  # else it is free a while later
            if _holder(_read(store, name)) == me:
                store.rm_file(name)


def _acquire(store: Any, name: str, me: str, folder: str) -> None:
    seen, since = b"", time.monotonic()
    while not _made(store, name, me):
        there = _read(store, name)
        if there is None:
            continue  # given up just now
        now = time.monotonic()
        if seen and there != seen:
            holder = " ".join(_holder(there).split()[:-1])
            raise BusyError(
                f"{folder} is in use by process {holder}; wait for it to end, or end it, then run "
                "the same command again"
            )
        if not seen:
            seen, since = there, now
        elif now - since > GONE:
            with contextlib.suppress(FileNotFoundError):
                store.rm_file(name)
            if _made(store, name, me):
                time.sleep(SETTLE)
                if _holder(_read(store, name)) == me:
                    return
            seen = b""
        time.sleep(EVERY / 4)


def _made(store: Any, name: str, me: str) -> bool:
    """Makes the object, if it is not there; gives whether it did."""
    try:
        store.pipe_file(name, f"{me}\n0".encode(), mode="create")
    except FileExistsError:
        return False
    return True


def _read(store: Any, name: str) -> bytes | None:
    try:
        content: bytes = store.cat_file(name)
    except FileNotFoundError:
        return None
    return content


def _holder(content: bytes | None) -> str:
    return (content or b"").decode(errors="replace").partition("\n")[0]


def _renew(store: Any, name: str, me: str, ended: threading.Event) -> None:
    count = 0
    while not ended.wait(EVERY):
        with contextlib.suppress(Exception):  # the store is out of reach: the next time
            if _holder(_read(store, name)) != me:
                print(f"{name}: lost to another process", file=sys.stderr, flush=True)
                return
            count += 1
            store.pipe_file(name, f"{me}\n{count}".encode())
