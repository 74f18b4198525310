"""The distinct images of one split of a data set, read once and kept as they are in one flat file.

Takes a prepared data set and the name of a split; gives `Stored`, found again by the set's
signature. Called by `splits.py`.
"""

import functools
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.kinds.images import pictures
from scaling.data.kinds.images.sources import Prepared
from scaling.data.store import build_once, key_of
from scaling.errors import SourceError, nearest

_READ = "v1"  # of how images are read: what was kept before is read anew
_MANY = 1024  # images a read: far faster than one by one
_READABLE = ("array_record", "parquet")


@dataclass(frozen=True)
class Stored:
    """The distinct images of a split, ordered by a hash of their pixels."""

    folder: Path

    @property
    def sizes(self) -> dict[str, int]:
        """height, image_width, channels, classes."""
        return dict(_facts(self.folder)["sizes"])

    @property
    def content(self) -> str:
        """Hash of the set of images with their labels."""
        return _facts(self.folder)["content"]

    @property
    def pixels(self) -> np.ndarray:
        """As in the source, mapped from the file: [images, H, W, C]."""
        facts = _facts(self.folder)
        sizes = [facts["sizes"][name] for name in ("height", "image_width", "channels")]
        return _mapped(self.folder / "pixels.bin", facts["dtype"]).reshape(-1, *sizes)

    @property
    def labels(self) -> np.ndarray:
        """int32 [images]."""
        return _loaded(self.folder / "labels.npy")

    @property
    def digests(self) -> np.ndarray:
        """SHA-256 of the pixels of each: uint8 [images, 32]."""
        return _loaded(self.folder / "digests.npy")


@functools.lru_cache(maxsize=64)
def _facts(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "facts.json").read_text())


@functools.lru_cache(maxsize=64)
def _mapped(path: Path, dtype: str) -> np.ndarray:
    return np.memmap(path, dtype, "r").view(np.ndarray)


@functools.lru_cache(maxsize=64)
def _loaded(path: Path) -> np.ndarray:
    array = np.load(path)
    array.setflags(write=False)
    return array


def stored(source: Prepared, part: str, root: Path) -> Stored:
    """The images of a split; of copies, the one that the set has first.

    Raises:
      SourceError: no such split, no images or labels in it, images of several sizes, files that
        only TensorFlow reads, or pictures that nobody reads.
    """
    if part not in source.parts:
        raise SourceError(
            f'source "{source.name}" has no part "{part}"{nearest(part, source.parts)}', "part"
        )
    key = key_of([source.name, part, source.signature, _READ])
    return Stored(build_once(root / "images" / key, lambda folder: _read(source, part, folder)))


def _read(source: Prepared, part: str, folder: Path) -> None:
    examples, classes = _READERS[source.form](source, part)
    places, labels, shape, dtype = dict[bytes, int](), list[int](), None, None
    with open(folder / "unordered.bin", "wb") as file:
        for pixels, label in examples:
            shape, dtype = shape or pixels.shape, dtype or pixels.dtype
            if pixels.shape != shape:
                raise SourceError(
                    f'source "{source.name}": its images have several sizes ({_by(shape)}, '
                    f"{_by(pixels.shape)}, ...); choose or prepare a set whose images have one size"
                )
            digest = hashlib.sha256(pixels.tobytes()).digest()
            if digest not in places:
                places[digest] = len(labels)
                labels.append(label)
                file.write(pixels.tobytes())
    if shape is None or dtype is None:
        raise SourceError(f'source "{source.name}": its split {part} has no images', "part")
    # The order is of the bytes of the digest that do not choose the split (`splits.py`): what the
    # set's files are called, and how they are ordered, decides nothing.
    digests = sorted(places, key=lambda digest: digest[8:])
    order = [places[digest] for digest in digests]
    unordered = np.memmap(folder / "unordered.bin", dtype, "r").reshape(-1, *shape)
    with open(folder / "pixels.bin", "wb") as file:
        for start in range(0, len(order), _MANY):
            file.write(unordered[order[start : start + _MANY]].tobytes())
    (folder / "unordered.bin").unlink()
    ordered = np.array(labels, np.int32)[order]
    np.save(folder / "labels.npy", ordered)
    np.save(folder / "digests.npy", np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32))
    sizes = dict(zip(("height", "image_width", "channels"), shape, strict=True))
    facts = {"sizes": {**sizes, "classes": classes or int(ordered.max()) + 1}, "dtype": dtype.str}
    content = hashlib.sha256(b"".join(digests) + ordered.astype("<i4").tobytes()).hexdigest()
    facts["content"] = key_of([content, facts])
    (folder / "facts.json").write_text(json.dumps(facts))


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _check(builder: Any, name: str) -> None:
    """That the set can be read, and has an image and a class in every example."""
    import tensorflow_datasets as tfds

    file_format = builder.info.file_format.value
    if file_format not in _READABLE:
        raise SourceError(
            f'source "{name}" is prepared as {file_format}, which only TensorFlow reads; prepare '
            f"it once more with: tfds build {builder.name} --file_format=array_record"
        )
    wanted = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    features = dict(builder.info.features.items())
    for key, kind in wanted.items():
        if not isinstance(features.get(key), kind):
            raise SourceError(
                f'source "{name}" has no feature "{key}" of type {kind.__name__} (it has '
                f"{', '.join(sorted(features))}); choose a set of labelled images"
            )


def _arrays(source: Prepared, part: str) -> tuple[Iterator[tuple[np.ndarray, int]], int]:
    """Every image of a part, [H, W, C], with its label, and 0 for as many classes as occur."""
    with np.load(source.folder / f"{part}.npz") as file:
        pixels, labels = file["pixels"], file["labels"]
    return ((image, int(label)) for image, label in zip(pixels, labels, strict=True)), 0


def _tfds(source: Prepared, part: str) -> tuple[Iterator[tuple[np.ndarray, int]], int]:
    """Likewise, and how many classes there are; 0: the set does not say."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(source.folder)
    _check(builder, source.name)
    return _rows(builder, part), builder.info.features["label"].num_classes or 0


def _pictures(source: Prepared, part: str) -> tuple[Iterator[tuple[np.ndarray, int]], int]:
    return pictures.rows(source.folder, part)


_READERS = {"tfds": _tfds, "arrays": _arrays, "pictures": _pictures}


def _rows(builder: Any, part: str) -> Iterator[tuple[np.ndarray, int]]:
    """Every image of a split, [H, W, C], and its label."""
    rows = builder.as_data_source(split=part)
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)  # a word about a faster decoder is not for who trains
    try:
        for start in range(0, len(rows), _MANY):
            for row in rows.__getitems__(range(start, min(start + _MANY, len(rows)))):
                yield np.asarray(row["image"]), int(row["label"])
    finally:
        absl.setLevel(level)
