"""Which images are trained on and which are held out, by content, and how they are given out.

Takes the config of some images; gives their splits, with the constants that the train split is
standardised by, and batches of a split. Called by `kinds/images/__init__.py`.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.data import draws
from scaling.data.kinds.images.corruptions import corrupted
from scaling.data.kinds.images.resizing import resized
from scaling.data.kinds.images.sources import find
from scaling.data.kinds.images.stored import Stored, stored
from scaling.data.order import permutation
from scaling.data.store import build_once, key_of
from scaling.errors import SourceError

if TYPE_CHECKING:
    from scaling.data.kinds.images import ImagesConfig

# Part of every content hash: how an image is assigned to a split.
_RULE = "distinct pixels; first 8 bytes of sha256 < fraction, or not in the validation part; v1"
_FRACTION = 0.1  # held out where the source has nothing for validation
_OWN = ("validation", "test")  # TFDS splits that are taken for it
_MANY = 4096  # images at a time, whose moments are taken
_FOLDER = "image_splits"


@dataclass(frozen=True)
class Splits:
    """The images of a part of a source, and those that are held out."""

    images: Stored  # the part that is trained on, whole
    held_out: Stored  # where the validation images are; the part itself if they are of it
    folder: Path  # what is kept of the split
    labels: tuple[int, ...] | None = None  # of the images that there are; None: all

    @property
    def content(self) -> str:
        """Hash of the images, their labels, and who is in which split."""
        return self._facts["content"]

    @property
    def mean(self) -> np.ndarray:
        """Of the pixels of the train split: float64 [channels]."""
        return np.array(self._facts["mean"])

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of the same; 1 for a channel that has only one value."""
        return np.array(self._facts["std"])

    @property
    def _facts(self) -> dict[str, Any]:
        return _facts(self.folder)

    def rows(self, split: str) -> tuple[Stored, np.ndarray]:
        """Where the images of a split are, and their numbers there: int64 [images]."""
        images = self.held_out if split == "validation" else self.images
        whole = split == "all"
        found = np.arange(len(images.labels)) if whole else _loaded(self.folder, split)
        if self.labels is None:
            return images, found
        return images, found[np.isin(images.labels[found], self.labels)]

    def count(self, split: str) -> int:
        """Images of a split."""
        return len(self.rows(split)[1])

    def digests(self, split: str) -> set[bytes]:
        """SHA-256 of the pixels of each image of a split."""
        images, rows = self.rows(split)
        return {digest.tobytes() for digest in images.digests[rows]}


@functools.lru_cache(maxsize=64)
def _facts(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "facts.json").read_text())


@functools.lru_cache(maxsize=64)
def _loaded(folder: Path, split: str) -> np.ndarray:
    rows = np.load(folder / f"{split}.npy")
    rows.setflags(write=False)
    return rows


def splits_of(data: "ImagesConfig", root: Path) -> Splits:
    """The splits of a config's images; made once, then found.

    An image goes to validation by the hash of its pixels, whatever else is in the set; where
    validation is a TFDS split of its own, an image that is in both is not trained on.

    Raises:
      SourceError: see `sources.find` and `stored.stored`.
    """
    source = find(data.source, root)
    part, fraction = data.part or "train", data.validation_fraction
    validation = data.validation_part
    if validation is None and fraction is None:
        validation = next((own for own in _OWN if own in source.parts and own != part), None)
    images = stored(source, part, root)
    own = fraction is None and validation is not None
    held_out = stored(source, validation, root) if own and validation else images
    share = None if own else fraction or _FRACTION
    content = key_of([images.content, held_out.content, share, _RULE])

    def build(folder: Path) -> None:
        if share is None:
            validation_rows = np.arange(len(held_out.labels))
            known = {digest.tobytes() for digest in held_out.digests}
            trained_on = np.array([digest.tobytes() not in known for digest in images.digests])
        else:
            chances = images.digests[:, :8].copy().view(">u8")[:, 0].astype(np.uint64)
            trained_on = chances >= np.uint64(int(share * 2**64))
            (validation_rows,) = (~trained_on).nonzero()
        (train_rows,) = trained_on.nonzero()
        np.save(folder / "train.npy", train_rows)
        np.save(folder / "validation.npy", validation_rows)
        mean, std = _moments(images.pixels, train_rows)
        facts = {"content": content, "mean": mean.tolist(), "std": std.tolist()}
        (folder / "facts.json").write_text(json.dumps(facts))

    # Rows are numbers in files, which one content has in one order only (`stored.py`).
    return Splits(images, held_out, build_once(root / _FOLDER / content, build), _labels(data))


def _labels(data: "ImagesConfig") -> tuple[int, ...] | None:
    """Those of the config, ascending. Raises SourceError for what is no list of numbers."""
    if data.labels is None:
        return None
    try:
        return tuple(sorted({int(one) for one in data.labels.split(",")}))
    except ValueError:
        raise SourceError(
            f'"{data.labels}" must be numbers of classes with commas, such as 0,1', "labels"
        ) from None


def prepared_count(root: Path, content: str) -> int | None:
    """Images of the train split of this content; None where it is not prepared."""
    folder = root / _FOLDER / content
    return len(_loaded(folder, "train")) if (folder / "train.npy").is_file() else None


def _moments(pixels: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over some images: float64 [channels] each."""
    channels = pixels.shape[-1]
    total, squares = np.zeros(channels), np.zeros(channels)
    for start in range(0, len(rows), _MANY):
        values = pixels[rows[start : start + _MANY]].reshape(-1, channels).astype(np.float64)
        total += values.sum(axis=0)
        squares += (values**2).sum(axis=0)
    count = max(1, len(rows) * pixels.shape[1] * pixels.shape[2])
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0.0)
    return mean, np.where(variance > 1e-12 * (1 + mean**2), np.sqrt(variance), 1.0)


@dataclass(frozen=True)
class ImageExamples:
    """The images of a split, standardised; in training, moved and mirrored by key."""

    splits: Splits
    split: str
    mean: np.ndarray  # of the images that are trained on: float64 [channels]
    std: np.ndarray  # likewise
    shift: int = 0
    flip: bool = False
    label_noise: float = 0.0
    corruption: str | None = None
    severity: int = 3
    side: int | None = None
    permutation: int = 0

    @property
    def flipped(self) -> np.ndarray:
        """bool [images]: whose label is a wrong one, chosen by a hash of their pixels."""
        return self._flipped(np.arange(len(self)))

    def _flipped(self, indices: np.ndarray) -> np.ndarray:
        chances = draws.bits(self._keys("flipped", indices), 1)[:, 0] >> np.uint64(11)
        return chances.astype(np.float64) * 2.0**-53 < self.label_noise

    def _keys(self, what: str, indices: np.ndarray) -> np.ndarray:
        """A key of each of the images, by its pixels: uint64 [B]."""
        images, rows = self.splits.rows(self.split)
        own = images.digests[rows[indices], 8:16].copy().view("<u8")[:, 0]
        return draws.folded(draws.key("images", what), own)

    def _labels(self, indices: np.ndarray) -> np.ndarray:
        """Those that are trained on: int32 [B]."""
        images, rows = self.splits.rows(self.split)
        labels, classes = images.labels[rows[indices]], images.sizes["classes"]
        if not self.label_noise:
            return labels
        by = 1 + draws.whole(self._keys("wrong label", indices), 1, classes - 1)[:, 0]
        return np.where(self._flipped(indices), (labels + by) % classes, labels).astype(np.int32)

    def __len__(self) -> int:
        return self.splits.count(self.split)

    def take(self, indices: np.ndarray, keys: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """image float32 [B, H, W, C], label int32 [B], weight float32 [B] of the numbered images.

        With `keys` (uint64 [B]) each image is moved and mirrored as its key says; without, as it
        is.
        """
        images, rows = self.splits.rows(self.split)
        pixels = images.pixels[rows[indices]]
        if self.side is not None:
            pixels = resized(pixels, *sides(pixels.shape[1], self.side))
        if keys is not None and self.shift:
            by = draws.whole(keys, 2, 2 * self.shift + 1) - self.shift
            by[:, 0] *= pixels.shape[1] > 1  # one row stays where it is
            pixels = _moved(pixels, by)
        if keys is not None and self.flip:
            mirrored = draws.whole(keys, 3, 2)[:, 2] == 1
            pixels = np.where(mirrored[:, None, None, None], pixels[:, :, ::-1], pixels)
        standard = pixels.astype(np.float32)
        standard -= self.mean.astype(np.float32)
        standard /= self.std.astype(np.float32)
        if self.corruption is not None:
            own = self._keys("corruption", indices)
            standard = corrupted(standard, own, self.corruption, self.severity)
        if self.permutation:
            flat = standard.reshape(len(standard), -1, standard.shape[-1])
            order = permutation(flat.shape[1], ("pixels", self.permutation))
            standard = flat[:, order].reshape(standard.shape)
        return {
            "image": standard,
            "label": self._labels(indices),
            "weight": np.ones(len(indices), np.float32),
        }


def sides(height: int, side: int) -> tuple[int, int]:
    """Height and width of images that are resized: one row stays one."""
    return (1 if height == 1 else side), side


def _moved(pixels: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Images [B, H, W, C] moved down and right by `by` [B, 2] pixels, with 0 where nothing was."""
    count, height, width, _ = pixels.shape
    margin = int(np.abs(by).max(initial=0))
    padded = np.pad(pixels, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    down = margin - by[:, :1] + np.arange(height)
    right = margin - by[:, 1:] + np.arange(width)
    return padded[np.arange(count)[:, None, None], down[:, :, None], right[:, None, :]]
