"""Small TFDS sets of random images, written to disk."""

import contextlib
import io
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

Rows = dict[str, list[tuple[np.ndarray, int]]]  # images and labels, by TFDS split


def png(pixels: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[-1] == 1 else pixels).save(file, "png")
    file.seek(0)
    return file


def write_set(folder: Path, name: str, rows: Rows, label: str = "label", ids: bool = False) -> None:
    """A prepared TFDS set of images with their labels; `ids`: and with names, as in CIFAR-10."""
    shape = (None, None, next(iter(rows.values()))[0][0].shape[-1])

    class ImageSet(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> tfds.core.DatasetInfo:
            features = {
                "image": tfds.features.Image(shape=shape),
                label: tfds.features.ClassLabel(num_classes=3),
                **({"id": tfds.features.Text()} if ids else {}),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in rows}

        def _generate_examples(self, split):
            for i, (pixels, of) in enumerate(rows[split]):
                name = {"id": f"{split}_{i}"} if ids else {}
                yield i, {"image": png(pixels), label: of, **name}

    made = type(name, (ImageSet,), {"name": name}, skip_registration=True)
    with contextlib.redirect_stdout(io.StringIO()):
        tfds.disable_progress_bar()
        made(data_dir=folder, file_format="array_record").download_and_prepare()


def random_images(count: int, seed: int, shape: tuple[int, ...] = (6, 5, 3)):
    rng = np.random.default_rng(seed)
    return [
        (rng.integers(0, 256, shape).astype(np.uint8), int(rng.integers(3))) for _ in range(count)
    ]
