"""A person's own recordings, WAV or FLAC, beside what is said in them.

Takes what stands behind `librispeech:` (a folder in that corpus's layout), `files:` (a glob of
audio files, each beside a .txt) or `table:` (two columns, path and text, or three with the
speaker); gives (file, speaker, text), and the samples of a file. Called by `sources.py`.
"""

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data import tables
from scaling.errors import SourceError

_SUFFIXES = (".wav", ".flac")
Row = tuple[Path, str, str]


def listed(form: str, rest: str) -> list[Row]:
    """(file, speaker, text) of every utterance, in the order of their names. Raises SourceError."""
    rows = sorted(FORMS[form](rest))
    if not rows:
        raise SourceError(f'source "{form}:{rest}": no recordings are there')
    for path, _, text in rows:
        if not path.is_file():
            raise SourceError(f"{path} is no file, though its transcript is there; pair missing")
        if not text.strip():
            raise SourceError(f"{path}: its transcript is empty")
    return rows


def samples(path: Path, rate: int) -> np.ndarray:
    """int16. Raises SourceError: no audio that can be read, another rate, or several channels."""
    try:
        import soundfile
    except ImportError as error:
        raise SourceError("recordings need soundfile: pip install 'scaling[data]'") from error
    try:
        audio, found = soundfile.read(path, dtype="int16", always_2d=True)
    except (RuntimeError, OSError) as error:
        raise SourceError(f"{path} is no audio that can be read: {error}") from None
    if found != rate:
        raise SourceError(
            f"{path} has {found} samples a second, not data.sample_rate={rate}; set that, or "
            "resample the file"
        )
    if audio.shape[1] != 1:
        raise SourceError(f"{path} has {audio.shape[1]} channels; mix them to one")
    if not len(audio):
        raise SourceError(f"{path} has no sample")
    return audio[:, 0]


def _librispeech(folder: str) -> Iterator[Row]:
    """`<speaker>-<chapter>.trans.txt` anywhere below the folder: a line for each file beside it,
    "<speaker>-<chapter>-<number> TEXT".
    """
    root = Path(folder).expanduser()
    lists = sorted(root.rglob("*.trans.txt"))
    if not lists:
        raise SourceError(f"{root} has no <speaker>-<chapter>.trans.txt in it or below it")
    for one in lists:
        said = {}
        for number, line in enumerate(tables.text(one).splitlines(), 1):
            name, _, text = line.strip().partition(" ")
            if not name:
                continue
            if not text.strip():
                raise SourceError(f"{one}: line {number} has no transcript of {name}")
            said[name] = text
        heard = {p.stem: p for p in sorted(one.parent.iterdir()) if p.suffix.lower() in _SUFFIXES}
        chapter = one.name.removesuffix(".trans.txt")
        for name in heard:
            if name not in said and name.startswith(f"{chapter}-"):
                raise SourceError(f"{heard[name]} has no line in {one.name}; add its transcript")
        for name, text in said.items():
            path = heard.get(name, one.parent / f"{name}.flac")
            yield path, name.split("-", 1)[0], text


def _files(pattern: str) -> Iterator[Row]:
    for name in glob.glob(str(Path(pattern).expanduser()), recursive=True):
        path = Path(name)
        if path.suffix.lower() not in _SUFFIXES:
            continue
        beside = path.with_suffix(".txt")
        if not beside.is_file():
            raise SourceError(f"{path} has no transcript: {beside.name} is not beside it")
        yield path, path.stem, tables.text(beside)


def _table(rest: str) -> Iterator[Row]:
    name, _, wanted = rest.partition("#")
    path = Path(name).expanduser()
    count = len(wanted.split(",")) if wanted.count(",") == 2 else 2
    paths, texts, *speakers = tables.chosen(path, wanted, count, "#path,text or #path,text,speaker")
    for one, text, speaker in zip(paths, texts, speakers[0] if speakers else paths, strict=True):
        yield path.parent / one, speaker, text


FORMS: dict[str, Any] = {"librispeech": _librispeech, "files": _files, "table": _table}
