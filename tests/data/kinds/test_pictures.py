"""A person's own pictures, `folder:<path>`, a prepared set in the form of a real one, and images at
another size.
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from image_sets import write_set
from PIL import Image

from scaling import data
from scaling.config import RunConfig, base_config, choices, from_dict, override
from scaling.data.kinds.images import ImagesConfig, examples, facts, resolve
from scaling.data.kinds.images.resizing import resized
from scaling.errors import ConfigError, SourceError
from scaling.studies import study
from scaling.train.loop import train

DRAW = np.random.default_rng(0)


def save(path: Path, shape: tuple[int, ...] = (6, 5, 3), mode: str | None = None) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = DRAW.integers(0, 256, shape).astype(np.uint8)
    picture = Image.fromarray(pixels[:, :, 0] if shape[-1] == 1 else pixels)
    (picture if mode is None else picture.convert(mode)).save(path)
    return pixels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten cats and ten dogs, three of them for a test."""
    for i in range(20):
        part = "test" if i < 3 else "train"
        save(tmp_path / "animals" / part / ("cat", "dog")[i % 2] / f"{i}.png")
    return tmp_path / "animals"


def opened(folder: Path, root: Path, split: str = "train", **fields: object):
    config = ImagesConfig(source=f"folder:{folder}", **fields)  # type: ignore[arg-type]
    found = resolve(config, facts(config, config, root))
    return examples(found, found, split, root)


def test_folders_are_classes_and_above_them_splits(folder: Path, tmp_path: Path):
    pixels = save(folder / "test" / "ape" / "new.png")  # a class of one split
    config = ImagesConfig(source=f"folder:{folder}")
    known = facts(config, config, tmp_path)
    assert (known.train_examples, known.validation_examples) == (17, 4)
    assert known.sizes == {"height": 6, "image_width": 5, "channels": 3, "classes": 3}
    held_out = opened(folder, tmp_path, "validation")
    images, rows = held_out.splits.rows("validation")
    labels = {images.pixels[row].tobytes(): int(images.labels[row]) for row in rows}
    assert labels[pixels.tobytes()] == 0  # ape, cat, dog
    assert sorted(labels.values()) == [0, 1, 1, 2]
    # What is added is seen, and has another name; one split is held out by content.
    save(folder / "train" / "cat" / "new.JPG")
    assert facts(config, config, tmp_path).content_hash != known.content_hash
    one = opened(folder / "train", tmp_path, "all")
    assert len(one) == 18


def test_every_form_of_a_picture_is_eight_bits(tmp_path: Path):
    for mode, channels in (("L", 1), ("1", 1), ("RGBA", 3), ("P", 3), ("CMYK", 3)):
        home = tmp_path / mode
        for i in range(12):
            save(home / "ab"[i % 2] / f"{i}.{'jpg' if mode == 'CMYK' else 'png'}", mode=mode)
        found = opened(home, tmp_path, "all").take(np.arange(3))["image"]
        assert found.shape == (3, 6, 5, channels)


def test_pictures_that_cannot_be_trained_on(folder: Path, tmp_path: Path):
    def says(match: str, home: Path = folder) -> None:
        with pytest.raises(SourceError, match=match):
            opened(home, tmp_path)

    says("there is no such folder; write folder:<path>", folder / "none")
    says("has no class folders with pictures", folder / "train" / "cat")
    odd = folder / "train" / "dog" / "odd.png"
    save(odd, (7, 5, 3))
    says(r"train/dog/odd.png has 7 x 5 pixels of three colours, but train/cat/\d+.png has 6 x 5")
    save(odd, (6, 5, 1))
    says(r"odd.png has 6 x 5 pixels of grey, but .* of three colours; make all of one size")
    Image.fromarray(np.zeros((6, 5), np.uint16)).save(odd)
    says("odd.png has pixels of mode I;16; save it with 8 bits a channel")
    odd.write_bytes(b"no picture")
    says("odd.png cannot be read as a picture .*; mend it or take it out")
    whole = (folder / "train" / "cat" / "4.png").read_bytes()
    odd.write_bytes(whole[: len(whole) // 2])
    says("odd.png cannot be read as a picture")


# ---- a real set of TFDS, as its own builder prepares it, but for the pictures


def like_cifar(root: Path) -> RunConfig:
    draw = np.random.default_rng(0)
    rows = {
        split: [(draw.integers(0, 256, (32, 32, 3)).astype(np.uint8), i % 3) for i in range(count)]
        for split, count in (("train", 40), ("test", 20))
    }
    write_set(root / "tfds", "cifar10", rows, ids=True)
    config = from_dict(base_config("convnet", "images", "classification"))
    small = {"model.stages": "plain c4 s2, c8 s4 e2", "model.width": 4, "evals.batches": 1}
    small |= {"train.steps": 2, "train.batch_size": 8, "evals.batch_size": 20}
    return override(config, {"data.source": "tfds:cifar10"} | small)


@pytest.mark.slow
def test_a_set_in_the_form_of_cifar10_is_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    config = study.resolve(like_cifar(tmp_path))
    assert choices.kind(config.data).shapes(config.data)["image"] == ((32, 32, 3), "float32")
    # The test split is validation, whole.
    assert len(data.eval_batches(config, "val").selection) == 20
    train(config, tmp_path / "runs", devices=jax.devices()[:1], quiet=True)


# ---- another size


@pytest.mark.parametrize("after", [(3, 4), (8, 5), (13, 9), (6, 5)])
def test_resizing_is_that_of_jax(after: tuple[int, int]):
    images = DRAW.normal(size=(2, 6, 5, 3)).astype(np.float32)
    theirs = jax.image.resize(images, (2, *after, 3), "linear", antialias=True)
    # Sums of at most 30 products in another order.
    np.testing.assert_allclose(resized(images, *after), theirs, rtol=1e-5, atol=1e-5)


def test_resized_images_are_other_data_and_moved_by_their_own_pixels(folder: Path, tmp_path: Path):
    plain, large = opened(folder, tmp_path), opened(folder, tmp_path, side=10, shift=7)
    assert large.take(np.arange(2))["image"].shape == (2, 10, 10, 3)
    assert large.take(np.arange(2), np.arange(2, dtype=np.uint64))["image"].shape == (2, 10, 10, 3)
    mean = [split.take(np.arange(17))["image"].mean() for split in (plain, large)]
    assert abs(mean[0] - mean[1]) < 0.1  # standardised by the same constants
    config = ImagesConfig(source=f"folder:{folder}")
    configs = [config, *(dataclasses.replace(config, side=side) for side in (6, 7))]
    assert len({facts(one, one, tmp_path).content_hash for one in configs}) == 3
    with pytest.raises(ConfigError, match=r"data\.shift=4 moves images of 4 pixels"):
        opened(folder, tmp_path, side=4, shift=4)
