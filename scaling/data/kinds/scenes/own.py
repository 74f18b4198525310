"""A person's own images with texts: a folder with a table of captions, or a table.

Takes what stands behind `folder:` or `table:`; reads the images once into one flat file, and gives
`Own`, by number. Called by `kinds/scenes/__init__.py`.
"""

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data import tables
from scaling.data.store import build_once, key_of
from scaling.errors import SourceError

_READ = "v1"  # of how images are read: what was kept before is read anew
_TABLE = "captions.csv"
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_MEAN, _STD = 0.5, 0.25  # that pixels between 0 and 1 are taken to have


@dataclass(frozen=True)
class Own:
    """The rows of a table, of a split; a picture is in one split with all that is said of it."""

    folder: Path  # prepared
    split: str
    fraction: float

    @property
    def content(self) -> str:
        """Hash of all rows and of the share that is held out."""
        return key_of([_facts(self.folder)["content"], self.fraction])

    @property
    def sides(self) -> tuple[int, int]:
        """Pixels."""
        height, width, _ = _facts(self.folder)["shape"]
        return height, width

    @property
    def channels(self) -> int:
        """1 of grey images, 3 of others."""
        return int(_facts(self.folder)["shape"][2])

    @property
    def classes(self) -> int:
        """Answers that there are; 1 where nothing is asked."""
        return max(1, len(set(_facts(self.folder)["answers"])))

    @property
    def longest(self) -> int:
        """Bytes of the longest text."""
        return max(len(text.encode()) for text in _facts(self.folder)["texts"])

    @property
    def rows(self) -> np.ndarray:
        """Numbers of the split's rows: int64."""
        return _rows(self.folder, self.split, self.fraction)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray]:
        """As `Composed.take`: texts that are the same mean the same."""
        facts, chosen = _facts(self.folder), self.rows[rows]
        pixels = _pixels(self.folder)[np.array(facts["images"])[chosen]].astype(np.float32) / 255
        texts, answers = facts["texts"], facts["answers"]
        meaning = {text: number for number, text in enumerate(sorted(set(texts)))}
        answer = {text: number for number, text in enumerate(sorted(set(answers)))}
        said = [texts[row] for row in chosen]
        meanings = np.array([meaning[text] for text in said], np.int32)
        labels = [answer[answers[row]] if answers else 0 for row in chosen]
        return (pixels - _MEAN) / np.float32(_STD), said, meanings, np.array(labels, np.int32)


@functools.lru_cache(maxsize=16)
def _facts(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "facts.json").read_text())


@functools.lru_cache(maxsize=16)
def _pixels(folder: Path) -> np.ndarray:
    """uint8 [images, Y, X, C]."""
    file = np.memmap(folder / "pixels.bin", np.uint8, "r").view(np.ndarray)
    return file.reshape(-1, *_facts(folder)["shape"])


@functools.lru_cache(maxsize=16)
def _rows(folder: Path, split: str, fraction: float) -> np.ndarray:
    facts = _facts(folder)
    hashes = np.array([int(digest[:8], 16) for digest in facts["digests"]])[facts["images"]]
    if split == "all":
        return np.arange(len(hashes))
    held_out = hashes < fraction * 2**32
    return (held_out if split == "validation" else ~held_out).nonzero()[0]


def find(form: str, rest: str, asks: bool, split: str, fraction: float, root: Path) -> Own:
    """The rows of a source. Raises SourceError."""
    name, _, wanted = rest.partition("#")
    path = Path(name).expanduser()
    table = path / _TABLE if form == "folder" else path
    form_of = "#image,question,answer" if asks else "#image,caption"
    columns = tables.chosen(table, wanted, 3 if asks else 2, form_of)
    names = [table.parent / one for one in columns[0]]
    for one in dict.fromkeys(names):
        if not one.is_file():
            raise SourceError(f"{one} is no file, though {table.name} has a text for it")
    if form == "folder":
        there = {p for p in path.iterdir() if p.suffix.lower() in _IMAGES}
        if missing := sorted(there - set(names)):
            raise SourceError(f"{missing[0]} has no line in {table.name}; add what it shows")
    stats = {str(one): one.stat() for one in names}
    stamps = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()]
    key = key_of([columns, stamps, _READ])
    folder = build_once(root / "scenes" / key, lambda folder: _read(names, columns[1:], folder))
    return Own(folder, split, fraction)


def _read(names: list[Path], texts: list[list[str]], folder: Path) -> None:
    distinct = list(dict.fromkeys(names))
    number = {name: i for i, name in enumerate(distinct)}
    images = [_image(name) for name in distinct]
    shape = next((one.shape for one in images if one.shape[2] == 3), images[0].shape)
    digests = []
    with open(folder / "pixels.bin", "wb") as file:
        for name, image in zip(distinct, images, strict=True):
            if image.shape[:2] != shape[:2]:
                raise SourceError(
                    f"{name} has {image.shape[0]} x {image.shape[1]} pixels, others have "
                    f"{shape[0]} x {shape[1]}; bring all to one size"
                )
            pixels = np.broadcast_to(image, shape).tobytes()
            file.write(pixels)
            digests.append(hashlib.sha256(pixels).hexdigest())
    facts = {
        "shape": shape,
        "digests": digests,
        "images": [number[name] for name in names],
        "texts": texts[0],
        "answers": texts[1] if len(texts) > 1 else [],
    }
    (folder / "facts.json").write_text(json.dumps(facts | {"content": key_of(facts)}))


def _image(path: Path) -> np.ndarray:
    """uint8 [Y, X, C], one channel if it is grey."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            grey = image.mode in ("1", "L", "I;16")
            pixels = np.asarray(image.convert("L" if grey else "RGB"))
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise SourceError(f"{path} is no image that can be read: {error}") from None
    return pixels[..., None] if pixels.ndim == 2 else pixels
