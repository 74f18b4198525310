"""The files of a run's directory: what each must hold, how it is read, and how it is mended.

`read_object` and `read_lines` give what is in a file, or raise DamagedError, which names the file,
the line and the way out; `mend` renames what is damaged, so that a training can write anew and
nothing is lost. Called by `scaling/records/directory.py` alone. No jax in this file.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from etils import epath

from scaling import files
from scaling.errors import ConfigError, DamagedError, UserError
from scaling.records import starts, strict_json

STATES = ("running", "done", "failed", "diverged", "stopped")
Values = dict[str, Any]

_NUMBER = (int, float)
_STATUS = {
    **dict.fromkeys(("step", "steps"), (int,)),
    **dict.fromkeys(("loss", "rate", "eta", "mfu", "seconds", "clock", "joules"), _NUMBER),
    **dict.fromkeys(("reason", "log", "started", "updated", "joules_by"), (str,)),
}
_SIZE = (
    *("params", "params_non_embedding", "params_active", "amount", "unique"),
    *("tokens", "unique_tokens", "flops"),
)
_MADE_BY = {
    **{"members": (int,), "device_count": (int,), "versions": (dict,)},
    **{"device_kind": (str,), "commit": (str,)},
}
_LOSSES = dict.fromkeys(("loss", "loss_se", "bits_per_byte"), _NUMBER)
_SPIKE = {"step": (int,), "loss": _NUMBER, "z": _NUMBER, "back_to": (int,), "skipped": (int,)}


def _expect(values: Any, kinds: Mapping[str, tuple[type, ...]], needed: bool = False) -> None:
    """Every one of these entries is of its kind; one that is missing or None only if `needed`."""
    for name, kind in kinds.items():
        value = values.get(name)
        if value is None and not needed:
            continue
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{name} is {'missing' if value is None else repr(value)[:40]}")


def check_config(record: Values) -> None:
    """`config.json`: what `starts.begun` and `RunDirectory.start` write."""
    _expect(record, {"fingerprint": (str,), "created": (str,)}, needed=True)
    _expect(record, {"size": (dict,), "provenance": (dict,), "config": (dict,)}, needed=True)
    _expect(record, {"start": (dict,), "starts": (list,)})
    _expect(record["size"], dict.fromkeys(_SIZE, _NUMBER))
    _expect(record["provenance"], _MADE_BY)
    if "start" in record:
        _expect(record["start"], {"time": (str,)}, needed=True)
        _expect({"step": None, **record["start"]}, {"step": (int,)})
    try:
        starts.as_trained(record)
        starts.starts_of(record)
    except ConfigError as error:
        raise ValueError(f"not readable by this version of the code: {error}") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"its starts are not as written: {error!r}") from error


def check_status(status: Values) -> None:
    """`status.json`, as `write_status` writes it."""
    if status.get("state") not in STATES:
        raise ValueError(f"state is {status.get('state', 'missing')!r}")
    _expect(status, _STATUS)
    _expect(status, {"clock": _NUMBER} if status["state"] == "running" else {}, needed=True)


def check_metric(line: Values) -> None:
    """A line of `metrics.jsonl`."""
    _expect(line, {"step": (int,), "split": (str,)}, needed=True)
    _expect(line, _LOSSES)


def check_hashes(line: Values) -> None:
    """A line of `fingerprints.jsonl`."""
    _expect(line, {"step": (int,), "hashes": (dict,)}, needed=True)
    _expect(line["hashes"], dict.fromkeys(line["hashes"], (int,)), needed=True)


def check_spike(line: Values) -> None:
    """A line of `spikes.jsonl`."""
    _expect(line, _SPIKE, needed=True)


def check_attempt(line: Values) -> None:
    """A line of `attempts.jsonl`."""
    _expect(line, {"failure": (str,)}, needed=True)
    _expect(line, {"answer": (str,), "reason": (str,), "step": (int,), "changed": (dict,)})


def check_note(line: Values) -> None:
    """A line of `notes.jsonl`."""
    _expect(line, {"time": (str,), "add": (list,), "remove": (list,)})
    _expect(line, {"note": (str,), "moved": (str,)})


def check_branch(branch: Values) -> None:
    """`branch.json`."""
    _expect(branch, {"trunk": (str,), "step": (int,)}, needed=True)


def check_samples(record: Values) -> None:
    """`samples.json`."""
    _expect(record, {"step": (int,), "judge": (str,), "examples": (int,)}, needed=True)
    _expect(record, dict.fromkeys(("trained", "untrained", "real"), _NUMBER), needed=True)
    _expect(record, {"right": _NUMBER})


# What is one object, and what is one object a line: name -> what checks it.
OBJECTS: dict[str, Callable[[Values], None]] = {
    "config.json": check_config,
    "status.json": check_status,
    "branch.json": check_branch,
    "samples.json": check_samples,
}
LINES: dict[str, Callable[[Values], None]] = {
    "metrics.jsonl": check_metric,
    "fingerprints.jsonl": check_hashes,
    "spikes.jsonl": check_spike,
    "attempts.jsonl": check_attempt,
    "notes.jsonl": check_note,
}


def damaged(path: epath.Path, why: object) -> DamagedError:
    """The error of a file that cannot be gone by."""
    return DamagedError(
        f"{path} is damaged ({why}); the same sweep or train command sets it aside and runs this "
        "run again"
    )


def read(path: epath.Path) -> bytes | None:
    """The content of a file; None where there is none. Raises DamagedError for one that is there
    and cannot be read, or is a folder.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if not files.is_local(path):
            raise
        raise damaged(path, (error.strerror or str(error)).lower()) from error


def decode(name: str, text: bytes) -> Values:
    """One object of the file `name`. Raises ValueError with what is wrong."""
    values = strict_json.decode_line(text)
    (OBJECTS.get(name) or LINES[name])(values)
    return values


def read_object(path: epath.Path) -> Values | None:
    """One of `OBJECTS`; None where there is no such file. Raises DamagedError."""
    content = read(path)
    try:
        return None if content is None else decode(path.name, content)
    except ValueError as error:
        raise damaged(path, error) from error


def tried(name: str, content: bytes) -> Iterator[tuple[int, bytes, Values | ValueError]]:
    """(number, text, object or what is wrong with it) of every line of one of `LINES`; a last one
    without its newline, which a kill tore, only if it is whole.
    """
    *whole, last = content.split(b"\n")
    for number, text in enumerate(whole, start=1):
        try:
            yield number, text, decode(name, text)
        except ValueError as error:
            yield number, text, error
    try:
        yield len(whole) + 1, last, decode(name, last)
    except ValueError:
        return


def read_lines(path: epath.Path) -> Iterator[tuple[bytes, Values]]:
    """Text and object of each line of one of `LINES`; none where there is no such file. Raises
    DamagedError.
    """
    content, number = read(path) or b"", 0
    for number, text, line in tried(path.name, content):
        if isinstance(line, ValueError):
            raise damaged_line(path, number, line) from line
        yield text, line
    if content and not number:
        raise damaged(path, "no line can be read")


def damaged_line(path: epath.Path, number: int, why: object) -> DamagedError:
    """As `damaged`, of one line; the others stay when the file is mended."""
    return DamagedError(
        f"{path} line {number} is damaged ({why}); the same sweep or train command sets the file "
        "aside, keeps its other lines and goes on with this run"
    )


def mend(folder: epath.Path) -> list[str]:
    """Sets aside every file of a run's folder that cannot be read; lines that can be read stay.
    Gives a sentence for each, for a person.

    Without `spikes.jsonl` nobody knows which batches were skipped: the checkpoints go with it, and
    the run begins anew.
    """
    said, checkpoints = [], folder / "checkpoints"
    for name in OBJECTS:
        try:
            read_object(folder / name)
        except DamagedError:
            said.append(f"{name} is damaged: kept as {set_aside(folder / name).name}")
    for name in LINES:
        if not mend_lines(folder / name):
            continue
        said.append(f"{name} is damaged: set aside, but for the lines that can be read")
        if name == "spikes.jsonl" and checkpoints.exists():
            kept = set_aside(checkpoints).name
            said.append(f"which batches were skipped is not known: begun anew, states in {kept}")
    if checkpoints.exists() and not checkpoints.is_dir():
        said.append(f"checkpoints is no folder: kept as {set_aside(checkpoints).name}")
    return said


def mend_lines(path: epath.Path) -> bool:
    """Sets one of `LINES` aside if a line of it cannot be read, and puts the others in its place.
    Gives whether it was so.
    """
    try:
        content = read(path) or b""
    except DamagedError:
        set_aside(path)
        return True
    lines = list(tried(path.name, content))
    kept = [text + b"\n" for _, text, line in lines if not isinstance(line, ValueError)]
    if len(kept) == len(lines) and (lines or not content):
        return False
    set_aside(path)
    if kept:
        files.write_atomic(path, b"".join(kept))
    return True


def set_aside(path: epath.Path) -> epath.Path:
    """Renames a file, or a folder, to `<name>.damaged` (or `.damaged-2`, ...); gives its new path.

    Raises UserError naming the path where that is not allowed.
    """
    names = ["", *(f"-{n}" for n in range(2, 1000))]
    there = (path.parent / f"{path.name}.damaged{n}" for n in names)
    free = next(place for place in there if not place.exists())
    try:
        path.rename(free)
    except OSError as error:
        raise UserError(
            f"cannot move the damaged {path} away: {error.strerror or error}; remove it"
        ) from error
    return free
