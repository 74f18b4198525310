"""Where utterances come from, by name, and where they are kept: made or read once into a folder.

Takes a source; gives `Utterances`, by number: what eSpeak NG speaks (`spoken.py`) or a person's
recordings (`recorded.py`). Called by `kinds/speech/__init__.py`.
"""

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling.data.kinds.speech import recorded, spoken
from scaling.data.store import build_once, key_of
from scaling.errors import SourceError, nearest

FORMS = (*spoken.FORMS, *recorded.FORMS)
_READ = "v1"  # of how recordings are read: what was kept before is read anew


@dataclass(frozen=True)
class Utterances:
    """What is said, by number, as prepared in a folder."""

    folder: Path

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def content(self) -> str:
        """Hash of all of it."""
        return str(_facts(self.folder)["content"])

    @property
    def texts(self) -> list[str]:
        """In lower case, one space between words."""
        return list(_facts(self.folder)["texts"])

    @property
    def speakers(self) -> list[str]:
        """Whose voice each is."""
        return list(_facts(self.folder)["speakers"])

    @property
    def audio(self) -> np.ndarray:
        """int16, all one after the other, mapped from the file."""
        return _mapped(self.folder)

    @property
    def ends(self) -> np.ndarray:
        """int64: where each ends in `audio`."""
        return _ends(self.folder)

    @property
    def counts(self) -> np.ndarray:
        """int64: samples of each."""
        return np.diff(self.ends, prepend=0)

    def digests(self, rows: np.ndarray) -> set[bytes]:
        """SHA-256 of the samples of some."""
        audio, ends, counts = self.audio, self.ends, self.counts
        pieces = (audio[ends[row] - counts[row] : ends[row]] for row in rows.tolist())
        return {hashlib.sha256(piece.tobytes()).digest() for piece in pieces}


@functools.lru_cache(maxsize=16)
def _facts(folder: Path) -> dict[str, list[str] | str]:
    return json.loads((folder / "facts.json").read_text())


@functools.lru_cache(maxsize=16)
def _mapped(folder: Path) -> np.ndarray:
    return np.memmap(folder / "audio.bin", "<i2", "r").view(np.ndarray)


@functools.lru_cache(maxsize=16)
def _ends(folder: Path) -> np.ndarray:
    ends = np.load(folder / "ends.npy")
    ends.setflags(write=False)
    return ends


def is_spoken(source: str) -> bool:
    """Whether it is made, as many as are wanted."""
    return source.partition(":")[0] in spoken.FORMS


def prepared_place(source: str, rate: int, count: int | None, root: Path) -> tuple[Path, Callable]:
    """The folder of a source, and what fills it. Raises SourceError."""
    form, _, rest = source.partition(":")
    if form not in FORMS or not rest:
        raise SourceError(
            f'source "{source}" is no source of speech{nearest(form, FORMS)}; write digits:en, '
            "dates:en, names:en, librispeech:<folder>, files:<glob> or table:<file>#path,text"
        )
    if form in spoken.FORMS:
        many = count or spoken.COUNT
        key = key_of(["spoken", source, rate, many, spoken.VERSION, _espeak()])
        return root / "speech" / key, functools.partial(_speak, source, rate, many, key)
    rows = recorded.listed(form, rest)
    stats = [path.stat() for path, _, _ in rows]
    stamps = [[str(p), who, text] for p, who, text in rows]
    times = [[stat.st_size, stat.st_mtime_ns] for stat in stats]
    key = key_of(["recorded", stamps, times, rate, _READ])
    return root / "speech" / key, functools.partial(_read, rows, rate)


def find(source: str, rate: int, count: int | None, root: Path) -> Utterances:
    """The utterances of a source, prepared now if they are not. Raises SourceError."""
    folder, fill = prepared_place(source, rate, count, root)
    return Utterances(build_once(folder, fill))


def _espeak() -> str:
    from importlib import metadata

    try:
        return metadata.version("espeakng-loader")
    except metadata.PackageNotFoundError:
        raise SourceError(
            "spoken digits, dates and names need eSpeak NG: pip install 'scaling[data]'"
        ) from None


def _speak(source: str, rate: int, count: int, key: str, folder: Path) -> None:
    texts, voices, requests = spoken.plan(source, count)
    spoken.speak(requests, rate, folder)
    _write(folder, texts, voices, key)


def _read(rows: list[recorded.Row], rate: int, folder: Path) -> None:
    ends, digest = list[int](), hashlib.sha256()
    with open(folder / "audio.bin", "wb") as file:
        for path, _, _ in rows:
            audio = recorded.samples(path, rate).astype("<i2").tobytes()
            file.write(audio)
            digest.update(audio)
            ends.append(len(audio) // 2 + (ends[-1] if ends else 0))
    np.save(folder / "ends.npy", np.array(ends, np.int64))
    texts, speakers = [text.lower() for _, _, text in rows], [who for _, who, _ in rows]
    key = key_of([digest.hexdigest(), ends, texts, speakers, rate])
    _write(folder, texts, speakers, key)


def _write(folder: Path, texts: list[str], speakers: list[str], content: str) -> None:
    facts = {
        "texts": [" ".join(text.split()) for text in texts],
        "speakers": speakers,
        "content": content,
    }
    (folder / "facts.json").write_text(json.dumps(facts))
