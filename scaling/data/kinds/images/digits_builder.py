"""A TFDS builder over scikit-learn's handwritten digits: 1,797 images of 8 x 8 pixels of 0 to 16.

Writes array_record files without TensorFlow and without the network, so that the digits are read
as any other TFDS image set is. Called by `sources.py`, when there is something to prepare.

Splits: `train` (1,437) and `test` (360). The images of each class are put in the order of the
SHA-256 of their pixels, class after class; of that list every fifth, from the first on, is test.
So the classes have equal shares in both, and nothing but the images decides: the split is the same
for ever. (The classes have 174 to 183 images, of which 35 to 37 are test.)
"""

import contextlib
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from scaling.errors import SourceError

# SHA-256 of the pixels as uint8 [1797, 8, 8] and, after them, the labels as uint8.
_CONTENT = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
_EVERY = 5  # one image of so many is test


class Digits(tfds.core.GeneratorBasedBuilder):
    """Handwritten digits (Alpaydin and Kaynak 1998, the test part of the UCI set)."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Every fifth image of a class is test."}  # noqa: RUF012

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(8, 8, 1)),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
        del dl_manager
        images, labels = digits()
        test = held_out(images, labels)
        train = np.setdiff1d(np.arange(len(images)), test)
        return {
            name: self._generate_examples(images, labels, chosen)
            for name, chosen in (("train", train), ("test", test))
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray, chosen: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in chosen.tolist():
            # As a file: to make one of an array, TFDS needs TensorFlow.
            png = io.BytesIO()
            Image.fromarray(images[index]).save(png, "png")
            png.seek(0)
            yield index, {"image": png, "label": int(labels[index])}


def held_out(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Indices of the test images of uint8 [N, 8, 8] with labels [N]; the rule is above."""

    def place(index: int) -> tuple[int, bytes]:
        return int(labels[index]), hashlib.sha256(images[index].tobytes()).digest()

    return np.array(sorted(range(len(images)), key=place)[::_EVERY])


def digits() -> tuple[np.ndarray, np.ndarray]:
    """uint8 [1797, 8, 8] and uint8 [1797]. Raises SourceError: scikit-learn has others now."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.uint8)
    if hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest() != _CONTENT:
        raise SourceError(
            'source "digits": the installed scikit-learn has other images than the 1,797 that the '
            "split is of; install the version that constraints.txt names"
        )
    return images, labels


def write(folder: Path) -> None:
    """Prepares the set in a folder."""
    builder = Digits(data_dir=folder, file_format="array_record")
    tfds.disable_progress_bar()  # it would write over our own progress
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare()
