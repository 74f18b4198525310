"""Images: the digits, other prepared sets, splits by content, and draws by key."""

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from image_sets import random_images, write_set

from scaling.data import draws
from scaling.data.kinds.images import (
    KIND,
    ImagesConfig,
    about,
    examples,
    facts,
    resolve,
    shapes,
    shared,
)
from scaling.data.kinds.images.splits import splits_of
from scaling.errors import ConfigError, DataError, SourceError

Write = Callable[..., ImagesConfig]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def write(root: Path) -> Write:
    """write("name", train=[...]): the config of a prepared set that is found in `root`."""

    def make(name: str, label: str = "label", **rows: list) -> ImagesConfig:
        write_set(root / "tfds", name, rows, label)
        return ImagesConfig(source=f"tfds:{name}")

    return make


@pytest.fixture(scope="module")
def pair(write: Write) -> ImagesConfig:
    """40 training images, 3 of them twice, 2 of them in the test split of 10, too."""
    train, test = random_images(40, 0), random_images(8, 1)
    return write("pair", train=train + train[:3], test=test + train[:2])


# ---- the digits


@pytest.fixture(scope="module")
def digits(root: Path) -> ImagesConfig:
    data = ImagesConfig()
    return resolve(data, facts(data, data, root))


def test_the_digits_have_their_fixed_split(root: Path, digits: ImagesConfig):
    known = facts(digits, digits, root)
    assert (known.train_examples, known.validation_examples) == (1437, 360)
    assert known.sizes == {"height": 8, "image_width": 8, "channels": 1, "classes": 10}
    # The same images on every machine, for ever.
    assert known.content_hash == "f2ec4d9fef64b192"
    assert shared(digits, "validation", digits, root) == 0


def test_the_digits_are_those_of_scikit_learn(root: Path, digits: ImagesConfig):
    from sklearn.datasets import load_digits

    splits = splits_of(digits, root)
    labels = {}
    for split in ("train", "validation"):
        images, rows = splits.rows(split)
        for row in rows:
            labels[images.pixels[row].tobytes()] = images.labels[row]
    bunch = load_digits()
    theirs = zip(bunch.images.astype(np.uint8), bunch.target, strict=True)
    assert labels == {pixels.tobytes(): label for pixels, label in theirs}


def test_classes_are_even_in_both_splits(root: Path, digits: ImagesConfig):
    counts = []
    for split in ("train", "validation"):
        images, rows = splits_of(digits, root).rows(split)
        counts.append(np.bincount(images.labels[rows], minlength=10))
    share = counts[1] / (counts[0] + counts[1])
    assert np.abs(share - 0.2).max() < 1 / 170  # of the smallest class: one image


def test_training_pixels_are_standardised(root: Path, digits: ImagesConfig):
    split = examples(digits, digits, "train", root)
    batch = split.take(np.arange(len(split)))
    assert batch["image"].mean(dtype=np.float64) == pytest.approx(0, abs=1e-5)  # float32
    assert batch["image"].std(dtype=np.float64) == pytest.approx(1, abs=1e-5)


def test_shapes_are_those_that_are_declared(root: Path, digits: ImagesConfig):
    batch = examples(digits, digits, "train", root).take(np.arange(4))
    assert set(batch) == KIND.fields
    for name, (shape, dtype) in shapes(digits).items():
        assert (batch[name].shape, batch[name].dtype.name) == ((4, *shape), dtype)


# ---- what is held out


def test_a_test_split_of_its_own_is_validation_and_is_not_trained_on(
    root: Path, pair: ImagesConfig
):
    known = facts(pair, pair, root)
    # Three copies fall away, and the two that are in the test split.
    assert (known.train_examples, known.validation_examples) == (38, 10)
    assert shared(pair, "validation", pair, root) == 0
    # The whole part has those two, which as an evaluation set of their own are not trained on.
    assert len(examples(pair, pair, "all", root)) == 40
    assert shared(pair, "all", pair, root) == 38
    test = dataclasses.replace(pair, part="test")
    assert len(examples(test, pair, "all", root)) == 10
    assert shared(test, "all", pair, root) == 0


def test_held_out_by_content(root: Path, pair: ImagesConfig, write: Write):
    train = random_images(40, 0)
    # In another order, with other images beside them, and without a test split.
    mixed = write("mixed", train=random_images(60, 5) + train[::-1])

    def digests(data: ImagesConfig, fraction: float, split: str) -> set[bytes]:
        return splits_of(dataclasses.replace(data, validation_fraction=fraction), root).digests(
            split
        )

    ours = digests(pair, 0.3, "validation")
    assert 4 <= len(ours) <= 22  # 12 of 40, four standard deviations
    assert ours < digests(mixed, 0.3, "validation")
    assert not ours & digests(mixed, 0.3, "train")
    assert ours <= digests(pair, 0.5, "validation")
    # Without a split for it, a tenth is held out.
    assert splits_of(mixed, root).digests("validation") == digests(mixed, 0.1, "validation")


def test_shared_counts_by_content(root: Path, pair: ImagesConfig, write: Write):
    other = write("other", train=random_images(40, 0)[:7] + random_images(20, 9))
    assert shared(other, "all", pair, root) == 5  # two of the seven are in pair's test split


def test_an_evaluation_set_has_the_constants_of_what_is_trained_on(
    root: Path, pair: ImagesConfig, write: Write
):
    bright = write("bright", train=[(pixels // 2 + 128, of) for pixels, of in random_images(20, 2)])
    split = examples(bright, pair, "all", root)
    raw = splits_of(bright, root).images.pixels.astype(np.float64)
    constants = splits_of(pair, root)
    expected = (raw - constants.mean) / constants.std
    # Three float32 roundings of numbers up to 5.
    np.testing.assert_allclose(split.take(np.arange(20))["image"], expected, atol=2e-6)
    own, of_pair = (facts(bright, train, root).content_hash for train in (bright, pair))
    assert own != of_pair


def test_the_hash_names_the_split(root: Path, pair: ImagesConfig):
    changes: list[dict] = [{}, {"validation_fraction": 0.2}, {"validation_fraction": 0.4}]
    changes += [{"part": "test", "validation_part": "train"}, {"part": "test"}]
    configs = [dataclasses.replace(pair, **fields) for fields in changes]
    assert len({facts(data, data, root).content_hash for data in configs}) == len(configs)
    drawn = dataclasses.replace(pair, shift=1, flip=True, seed=3, unique_examples=10)
    assert facts(drawn, drawn, root) == facts(pair, pair, root)


def test_what_is_known_without_preparing(root: Path, tmp_path: Path, digits: ImagesConfig):
    known = dataclasses.replace(digits, corpus=facts(digits, digits, root).content_hash)
    assert about(known, root) == {"unique": 1437}
    assert about(known, tmp_path) == {}
    assert not list(tmp_path.iterdir())


def test_images_that_changed_are_not_trained_on(root: Path, digits: ImagesConfig):
    pinned = dataclasses.replace(digits, corpus="0123456789abcdef")
    with pytest.raises(SourceError, match=r"digits is now [0-9a-f]{16}") as caught:
        examples(pinned, pinned, "train", root)
    assert caught.value.member == "corpus"


# ---- draws


def test_same_key_same_image_whatever_the_batch(root: Path, pair: ImagesConfig):
    data = dataclasses.replace(pair, shift=2, flip=True)
    split = examples(data, data, "train", root)
    indices, keys = np.arange(38), draws.folded(draws.key("draws"), np.arange(38))
    whole = split.take(indices, keys)
    order = np.random.default_rng(0).permutation(38)
    for size in (1, 5, 38):
        for start in range(0, 38, size):
            at = order[start : start + size]
            some = split.take(indices[at], keys[at])
            for name in whole:
                np.testing.assert_array_equal(some[name], whole[name][at])
    others = split.take(indices, draws.folded(draws.key("others"), np.arange(38)))
    assert (others["image"] != whole["image"]).any(axis=(1, 2, 3)).sum() > 25


def test_every_draw_is_a_move_and_a_mirror_of_the_image(root: Path, pair: ImagesConfig):
    data = dataclasses.replace(pair, shift=1, flip=True)
    split = examples(data, data, "train", root)
    constants = splits_of(pair, root)
    keys = draws.folded(draws.key("forms"), np.arange(900))
    drawn = split.take(np.zeros(900, np.int64), keys)["image"]
    images, rows = constants.rows("train")
    pixels = images.pixels[rows[0]]
    forms = {}
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            moved = np.roll(np.pad(pixels, ((1, 1), (1, 1), (0, 0))), (down, right), (0, 1))
            for mirror in (False, True):
                form = moved[1:-1, 1:-1][:, :: -1 if mirror else 1].astype(np.float32)
                form = (form - constants.mean.astype(np.float32)) / constants.std.astype(np.float32)
                forms[form.tobytes()] = (down, right, mirror)
    counts = dict.fromkeys(forms, 0)
    for image in drawn:
        counts[image.tobytes()] += 1  # a KeyError would be an image that is none of the 18
    assert sum((count - 50) ** 2 / 50 for count in counts.values()) < 40.8  # 17 degrees, p = 0.001


def test_without_keys_nothing_is_drawn(root: Path, pair: ImagesConfig):
    data = dataclasses.replace(pair, shift=2, flip=True)
    drawn, plain = (examples(of, of, "train", root) for of in (data, pair))
    np.testing.assert_array_equal(
        drawn.take(np.arange(38))["image"], plain.take(np.arange(38))["image"]
    )


def test_examples_can_go_to_other_processes(root: Path, digits: ImagesConfig):
    split = examples(digits, digits, "train", root)
    split.take(np.arange(3))
    assert len(pickle.dumps(split)) < 5000  # the images stay in their file
    again = pickle.loads(pickle.dumps(split))
    np.testing.assert_array_equal(
        again.take(np.array([5]))["image"], split.take(np.array([5]))["image"]
    )


# ---- mistakes


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("digit", 'did you mean "digits"'),
        ("digits:8", "write digits"),
        ("tfds:no_such_set", r"not prepared in .*; prepare it once"),
    ],
)
def test_a_source_that_is_not_there(root: Path, source: str, says: str):
    data = ImagesConfig(source=source)
    with pytest.raises(SourceError, match=says):
        facts(data, data, root)


def test_sets_that_cannot_be_trained_on(root: Path, pair: ImagesConfig, write: Write):
    sizes = write("sizes", train=random_images(3, 0) + random_images(3, 1, (5, 5, 3)))
    with pytest.raises(DataError, match="its images have several sizes"):
        facts(sizes, sizes, root)
    unlabelled = write("unlabelled", label="kind", train=random_images(3, 0))
    with pytest.raises(SourceError, match=r'no feature "label" .* \(it has image, kind\)'):
        facts(unlabelled, unlabelled, root)
    with pytest.raises(SourceError, match='no part "tset"') as caught:
        facts(wrong := dataclasses.replace(pair, part="tset"), wrong, root)
    assert caught.value.member == "part"
    other = write("small", train=random_images(3, 0, (4, 5, 3)))
    with pytest.raises(SourceError, match=r"has height=4, but .* has 6"):
        facts(other, pair, root)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"classes": 4}, "data.classes=4, but .* has 3; leave data.classes unset"),
        ({"shift": 5}, "data.shift=5 moves images of 5 pixels out of sight"),
        ({"unique_examples": 39}, "data.unique_examples=39 is more than"),
    ],
)
def test_configs_that_the_images_do_not_allow(
    root: Path, pair: ImagesConfig, fields: dict, says: str
):
    data = dataclasses.replace(pair, **fields)
    with pytest.raises(ConfigError, match=says):
        resolve(data, facts(data, data, root))
