"""Images that are not as they were: wrong labels, corruptions, and signals as images of one row."""

import random
from pathlib import Path

import numpy as np
import pytest

from scaling import data
from scaling.config import RunConfig, choices, override
from scaling.data.kinds.images import ImagesConfig, examples, facts, resolve
from scaling.data.kinds.images.corruptions import CORRUPTIONS, corrupted
from scaling.errors import ConfigError, DataError, SourceError
from scaling.studies import study


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


def opened(root: Path, split: str = "train", **fields: object):
    config = ImagesConfig(**fields)  # type: ignore[arg-type]
    found = resolve(config, facts(config, config, root))
    return examples(found, found, split, root)


def every(found) -> dict[str, np.ndarray]:
    return found.take(np.arange(len(found)))


def test_a_share_of_the_labels_is_wrong_and_nothing_else_changes(root: Path):
    plain, noisy = opened(root), opened(root, label_noise=0.3)
    right, wrong = every(plain), every(noisy)
    np.testing.assert_array_equal(right["image"], wrong["image"])
    np.testing.assert_array_equal(right["label"] != wrong["label"], noisy.flipped)
    assert abs(noisy.flipped.mean() - 0.3) < 4 * (0.3 * 0.7 / len(noisy)) ** 0.5
    more = opened(root, label_noise=0.6)
    assert (more.flipped | ~noisy.flipped).all()  # those of a smaller share are among them
    same = noisy.flipped & more.flipped
    np.testing.assert_array_equal(every(more)["label"][same], wrong["label"][same])
    assert not opened(root, "validation", label_noise=0.3).flipped.any()


def test_wrong_labels_have_another_content_and_right_ones_the_old(root: Path):
    def hash_of(**fields: object) -> str:
        config = ImagesConfig(**fields)  # type: ignore[arg-type]
        return facts(config, config, root).content_hash

    contents = [hash_of(), hash_of(label_noise=0.3), hash_of(corruption="blur")]
    contents += [hash_of(corruption="blur", severity=4)]
    assert len(set(contents)) == 4
    assert contents[0] == "f2ec4d9fef64b192"  # of the runs that there are


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_grows_with_its_severity_and_goes_by_the_image(root: Path, name: str):
    plain = every(opened(root, "validation"))["image"]
    found = [
        every(opened(root, "validation", corruption=name, severity=level))["image"]
        for level in (1, 3, 5)
    ]
    far = [float(np.sqrt(((x - plain) ** 2).mean())) for x in found]
    assert 0 < far[0] < far[1] < far[2]
    assert found[0].dtype == np.float32
    one = opened(root, "validation", corruption=name, severity=3).take(np.array([7, 2]))
    np.testing.assert_allclose(one["image"], found[1][[7, 2]], atol=1e-6)


def test_an_occlusion_covers_the_share_that_it_says():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(200, 20, 30, 1)).astype(np.float32)
    keys = np.arange(200, dtype=np.uint64)
    for severity, share in ((2, 0.1), (5, 0.4)):
        covered = corrupted(images, keys, "occlusion", severity) == 0
        np.testing.assert_allclose(covered.mean(axis=(1, 2, 3)), share, atol=0.02)
    places = {tuple(np.argwhere(one[..., 0])[0]) for one in covered}
    assert len(places) > 50  # anywhere


@pytest.mark.slow  # the package makes them one by one
def test_signals_are_images_of_one_row_and_move_along_it(root: Path):
    state, own = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    found = opened(root, source="mnist1d")
    assert random.getstate() == state
    np.testing.assert_array_equal(np.random.get_state()[1], own)  # noqa: NPY002
    assert len(found) == 4000
    assert len(opened(root, "validation", source="mnist1d")) == 1000
    batch = every(found)
    assert batch["image"].shape == (4000, 1, 40, 1)
    # As the paper has them: standardised, ten classes of like size.
    assert abs(batch["image"].mean()) < 1e-3
    assert abs(batch["image"].std() - 1) < 1e-3
    assert np.bincount(batch["label"]).min() > 350
    moving = opened(root, source="mnist1d", shift=3)
    moved = moving.take(np.arange(64), np.arange(64, dtype=np.uint64))["image"]
    back = {
        by
        for by in range(-3, 4)
        if np.allclose(
            moved[0, 0, max(by, 0) : 40 + min(by, 0)],
            batch["image"][0, 0, max(-by, 0) : 40 - max(by, 0)],
            atol=1e-5,
        )
    }
    assert back


def test_what_cannot_be_corrupted_is_refused_by_its_field(root: Path):
    for fields, says in (
        ({"corruption": "fog"}, '"fog" is none'),
        ({"corruption": "blur", "severity": 6}, "6 must be 1 to 5"),
        ({"corruption": "rotation", "source": "mnist1d"}, "cannot be turned"),
    ):
        config = ImagesConfig(**fields)  # type: ignore[arg-type]
        with pytest.raises(SourceError, match=says):
            facts(config, config, root)


# ---- as evaluation sets


def run(**fields: object) -> RunConfig:
    raw = RunConfig(
        choices.new("model", "mlp"),
        choices.new("data", "images"),
        choices.new("objective", "classification"),
    )
    own = {"train.steps": 4, "train.batch_size": 64, "model.width": 8}
    return study.resolve(override(raw, own | fields))


def test_sets_of_corrupted_and_of_wrongly_labelled_images():
    config = run(
        **{
            "data.label_noise": 0.25,
            "data.unique_examples": 200,
            "evals.sets.blurred": {"corruption": "blur", "severity": 5},
            "evals.sets.wrong": {"split": "flipped"},
            "evals.sets.seen": {"split": "train"},
        }
    )
    plain, blurred = (data.eval_batches(config, name).batch(0) for name in ("val", "blurred"))
    np.testing.assert_array_equal(plain["label"], blurred["label"])
    assert not np.allclose(plain["image"], blurred["image"])
    wrong, seen = (data.eval_batches(config, name) for name in ("wrong", "seen"))
    assert set(wrong.selection) < set(seen.selection)
    assert len(seen.selection) == 200
    assert 30 <= len(wrong.selection) <= 70
    right = run(**{"data.unique_examples": 200})
    before = data.train_batches(right).examples.take(wrong.selection)["label"]
    assert (wrong.examples.take(wrong.selection)["label"] != before).all()


def test_sets_that_cannot_be_are_refused(tiny):
    with pytest.raises(ConfigError, match=r"evals\.sets: corruption='blur', but data\.kind=text"):
        tiny({"evals.sets.blurred": {"corruption": "blur"}})
    with pytest.raises(DataError, match=r'evals\.sets\.odd\.corruption: "fog" is none'):
        run(**{"evals.sets.odd": {"corruption": "fog"}})
    config = run(**{"evals.sets.wrong": {"split": "flipped"}})
    with pytest.raises(ConfigError, match="no label is wrong"):
        data.eval_batches(config, "wrong")
    with pytest.raises(ConfigError, match=r"data\.severity=4 changes nothing"):
        run(**{"data.severity": 4})
