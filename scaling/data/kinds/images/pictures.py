"""A person's own pictures: a folder of class folders of PNG or JPEG files, or of splits that are
such folders.

    animals/cat/1.png, animals/dog/2.jpg            one split, train
    animals/train/cat/1.png, animals/test/cat/...   splits as the folders are called

Takes the folder; gives its splits and the pictures of one with their labels, which are the class
folders in the order of their names. Called by `sources.py` and `stored.py`.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from scaling.errors import SourceError

SUFFIXES = (".png", ".jpg", ".jpeg")
_HOW = "write folder:<path> of a folder whose folders are the classes, with .png or .jpg files"
# Pillow's modes -> the one that is kept: grey or three colours, 8 bits each.
_MODES = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGB", "CMYK": "RGB"}
_MODES |= {"YCbCr": "RGB", "PA": "RGB"}


def find(folder: Path) -> dict[str, list[Path]]:
    """Split -> its pictures, ordered by name. Raises SourceError where there are no classes."""
    if not folder.is_dir():
        raise SourceError(f'source "folder:{folder}": there is no such folder; {_HOW}')
    if _classes(folder):
        return {"train": _pictures(folder)}
    found = {part.name: _pictures(part) for part in _folders(folder) if _classes(part)}
    if not found:
        raise SourceError(f'source "folder:{folder}" has no class folders with pictures; {_HOW}')
    return found


def rows(folder: Path, part: str) -> tuple[Iterator[tuple[np.ndarray, int]], int]:
    """Every picture of a split, uint8 [H, W, C], with its label, and how many classes all splits
    have together. Raises SourceError for what Pillow cannot read, and pictures of several sizes.
    """
    found = find(folder)
    classes = sorted({path.parent.name for paths in found.values() for path in paths})
    label = {name: i for i, name in enumerate(classes)}

    def read() -> Iterator[tuple[np.ndarray, int]]:
        first, shape = found[part][0], None
        for path in found[part]:
            pixels = _read(path, folder)
            shape = shape or pixels.shape
            if pixels.shape != shape:
                one, other = path.relative_to(folder), first.relative_to(folder)
                raise SourceError(
                    f'source "folder:{folder}": {one} has {_said(pixels.shape)}, but {other} has '
                    f"{_said(shape)}; make all of one size"
                )
            yield pixels, label[path.parent.name]

    return read(), len(classes)


def _said(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]} pixels of {'grey' if shape[2] == 1 else 'three colours'}"


def _read(path: Path, folder: Path) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            if picture.mode not in _MODES:
                raise SourceError(
                    f'source "folder:{folder}": {path.relative_to(folder)} has pixels of mode '
                    f"{picture.mode}; save it with 8 bits a channel"
                )
            pixels = np.asarray(picture.convert(_MODES[picture.mode]))
    # Pillow raises these, SyntaxError too, for files that are cut short or of another format.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SourceError(
            f'source "folder:{folder}": {path.relative_to(folder)} cannot be read as a picture '
            f"({error}); mend it or take it out"
        ) from None
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _classes(folder: Path) -> list[Path]:
    return [part for part in _folders(folder) if _files(part)]


def _pictures(folder: Path) -> list[Path]:
    return [path for one in _classes(folder) for path in _files(one)]


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
