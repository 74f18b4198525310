"""Scenes, what is said and asked of them; one's own images; an error for each way they break."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scaling.data.kinds.images import digits_builder
from scaling.data.kinds.scenes import KIND, ScenesConfig
from scaling.data.numerals import digits
from scaling.errors import ConfigError, SourceError

NAMES = {name: number for number, name in enumerate(digits("en"))}


def resolved(data: ScenesConfig, root: pathlib.Path) -> ScenesConfig:
    facts = KIND.facts(data, data, root)
    return dataclasses.replace(KIND.resolve(data, facts), corpus=facts.content_hash)


def taken(
    data: ScenesConfig, root: pathlib.Path, split: str = "validation", rows: int = 64
) -> dict[str, np.ndarray]:
    data = resolved(data, root)
    examples = KIND.examples(data, data, split, root)
    return examples.take(np.arange(min(rows, len(examples))))


def texts(batch: dict[str, np.ndarray]) -> list[str]:
    lengths = batch["text_segments"].sum(axis=1)
    return [bytes(t[:n].tolist()).decode() for t, n in zip(batch["text"], lengths, strict=True)]


def cells(batch: dict[str, np.ndarray]) -> np.ndarray:
    """The digit in each cell, int64 [B, 2, 2]; -1: none. By the picture's pixels."""
    images, labels = digits_builder.digits()
    known = {image.tobytes(): int(label) for image, label in zip(images, labels, strict=True)}
    known[np.zeros((8, 8), np.uint8).tobytes()] = -1
    pixels = batch["image"][..., 0] * 0.36 + 0.23
    raw = np.rint(pixels * 16).astype(np.uint8).reshape(-1, 2, 8, 2, 8).swapaxes(2, 3)
    return np.array([[[known[c.tobytes()] for c in row] for row in scene] for scene in raw])


def test_captions_say_what_the_image_shows(tmp_path: pathlib.Path):
    batch = taken(ScenesConfig(), tmp_path)
    for text, scene in zip(texts(batch), cells(batch), strict=True):
        first, second = text.split(", ")
        one, vertical, two = first.split()
        across, _, three = second.split()
        row, column = (scene == NAMES[one]).nonzero()
        assert (vertical, across) == (
            "above" if row == 0 else "below",
            "left" if column == 0 else "right",
        )
        assert scene[1 - row, column] == NAMES[two]
        assert scene[row, 1 - column] == NAMES[three]
        assert scene[1 - row, 1 - column] == -1


def test_answers_are_right_and_each_question_has_one(tmp_path: pathlib.Path):
    batch = taken(ScenesConfig(task="questions"), tmp_path)
    away = {"above": (-1, 0), "below": (1, 0), "left": (0, -1), "right": (0, 1)}
    for text, scene, label in zip(texts(batch), cells(batch), batch["label"], strict=True):
        _, _, relation, *_, name = text.removesuffix("?").split()
        ((row, column),) = np.argwhere(scene == NAMES[name])
        down, across = away[relation]
        assert scene[row + down, column + across] == label
    assert len(set(batch["label"].tolist())) == 10


def test_texts_of_one_meaning_say_the_same_in_every_language(tmp_path: pathlib.Path):
    batch = taken(ScenesConfig(source="digits:en-de-fr"), tmp_path, "train", 400)
    by_meaning: dict[int, Any] = {}
    for meaning, scene in zip(batch["meaning"].tolist(), cells(batch), strict=True):
        assert (by_meaning.setdefault(meaning, scene) == scene).all()
    assert len(by_meaning) > 300


def test_pictures_of_validation_are_not_those_of_training(tmp_path: pathlib.Path):
    def pictures(split: str) -> set[bytes]:
        images = taken(ScenesConfig(), tmp_path, split, 500)["image"][..., 0]
        raw = images.reshape(-1, 2, 8, 2, 8).swapaxes(2, 3).reshape(-1, 64)
        return {row.tobytes() for row in raw if len(set(row.tolist())) > 1}

    train, validation = pictures("train"), pictures("validation")
    assert len(train) > 500
    assert not train & validation


@pytest.mark.parametrize("source", ["digits:en", "digits:de-fr", "digits:es-it-nl"])
@pytest.mark.parametrize("task", ["captions", "questions"])
def test_there_is_room_for_the_longest_text_and_no_more(
    source: str, task: Any, tmp_path: pathlib.Path
):
    batch = taken(ScenesConfig(source=source, task=task), tmp_path, "train", 20_000)
    longest = batch["text_segments"].sum(axis=1).max()
    assert batch["text"].shape[1] - 2 <= longest <= batch["text"].shape[1]


def test_a_modality_that_is_missing_is_blank(tmp_path: pathlib.Path):
    whole, no_image, no_text = (
        taken(ScenesConfig(corruption=corruption), tmp_path)
        for corruption in (None, "no_image", "no_text")
    )
    assert not no_image["image"].any()
    assert not no_text["text"].any()
    assert (no_text["text_segments"].sum(axis=1) == 1).all()
    for name in ("text", "label", "meaning"):
        np.testing.assert_array_equal(no_image[name], whole[name])
    np.testing.assert_array_equal(no_text["image"], whole["image"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"source": "digit:en"}, "did you mean"),
        ({"source": "digits:xx"}, "no language"),
        ({"corruption": "no_images"}, "no_image"),
    ],
)
def test_what_there_is_not(fields: dict[str, Any], said: str, tmp_path: pathlib.Path):
    with pytest.raises(SourceError, match=said):
        resolved(ScenesConfig(**fields), tmp_path)


def test_sizes_that_are_given_are_held_to(tmp_path: pathlib.Path):
    with pytest.raises(ConfigError, match=r"data\.text_len=5"):
        resolved(ScenesConfig(text_len=5), tmp_path)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Twenty grey images with captions."""
    place, rng = tmp_path / "own", np.random.default_rng(0)
    place.mkdir()
    lines = ["file,caption"]
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (8, 12), np.uint8)).save(place / f"{i}.png")
        lines.append(f"{i}.png,number {i}")
    (place / "captions.csv").write_text("\n".join(lines) + "\n")
    return place


def test_own_images_with_captions(folder: pathlib.Path, tmp_path: pathlib.Path):
    data = resolved(ScenesConfig(source=f"folder:{folder}", validation_fraction=0.3), tmp_path)
    assert (data.height, data.image_width, data.channels) == (8, 12, 1)
    batch = taken(data, tmp_path, "train") | {}
    for text, image in zip(texts(batch), batch["image"], strict=True):
        pixels = np.asarray(Image.open(folder / f"{text.split()[1]}.png"), np.float32)
        np.testing.assert_allclose(image[..., 0], (pixels / 255 - 0.5) / 0.25, rtol=1e-5, atol=1e-5)
    held_out = taken(data, tmp_path)
    assert len(texts(batch)) + len(texts(held_out)) == 20
    assert not set(texts(batch)) & set(texts(held_out))


def test_own_questions_with_answers(folder: pathlib.Path, tmp_path: pathlib.Path):
    lines = [f"{i}.png,is {i} even?,{'no' if i % 2 else 'yes'}" for i in range(20)]
    (folder / "asked.csv").write_text("image,question,answer\n" + "\n".join(lines) + "\n")
    data = ScenesConfig(source=f"table:{folder}/asked.csv", task="questions")
    batch = taken(dataclasses.replace(data, validation_fraction=0.3), tmp_path, "train")
    assert resolved(data, tmp_path).classes == 2
    even = [int(text.split()[1]) % 2 == 0 for text in texts(batch)]
    np.testing.assert_array_equal(batch["label"], even)  # no, yes


def broken(folder: pathlib.Path, how: str) -> str:
    """A source, after one thing has been broken."""
    if how == "no image":
        (folder / "3.png").unlink()
    elif how == "no caption":
        Image.new("L", (12, 8)).save(folder / "extra.png")
    elif how == "another size":
        Image.new("L", (8, 8)).save(folder / "3.png")
    elif how == "unreadable":
        (folder / "3.png").write_bytes(b"not an image")
    elif how == "empty caption":
        (folder / "captions.csv").write_text("file,caption\n1.png,\n")
    elif how == "no table":
        (folder / "captions.csv").unlink()
    return f"folder:{folder}"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no image", r"3\.png is no file, though captions\.csv has a text for it"),
        ("no caption", r"extra\.png has no line in captions\.csv"),
        ("another size", r"has .* pixels, others have"),
        ("unreadable", r"3\.png is no image that can be read"),
        ("empty caption", r'row 1 has no text in column "caption"'),
        ("no table", r"captions\.csv is no file"),
    ],
)
def test_one_clear_error_for_each_way_images_break(
    folder: pathlib.Path, tmp_path: pathlib.Path, how: str, said: str
):
    with pytest.raises(SourceError, match=said):
        resolved(ScenesConfig(source=broken(folder, how)), tmp_path)
