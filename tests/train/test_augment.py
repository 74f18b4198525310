"""Colour by definition, and the few examples of a class that a probe is fitted to."""

import jax
import numpy as np
import pytest

from configs import vision
from scaling import data
from scaling.config import from_dict, override
from scaling.errors import ConfigError
from scaling.studies import study
from scaling.train.augment import coloured

IMAGE = jax.random.normal(jax.random.key(0), (6, 5, 3))
KEYS = jax.random.split(jax.random.key(1), 200)


def test_colour_contrast_and_light_are_within_their_strength():
    image = np.asarray(IMAGE)
    made = np.asarray(jax.vmap(lambda key: coloured(0.3, IMAGE, key))(KEYS))
    mean, grey = image.mean(), image.mean(axis=-1)
    light = np.asarray(made.mean(axis=(1, 2, 3)) - mean)
    contrast = (made.mean(axis=-1) - made.mean(axis=(1, 2, 3))[:, None, None]) / (grey - mean)
    color = (made - made.mean(axis=-1, keepdims=True)) / (image - grey[..., None])
    color = color / contrast[..., None]
    for found, middle in ((light, 0), (contrast, 1), (color, 1)):
        spread = np.asarray(found).reshape(200, -1)
        # One number for the whole image: rounding, over distances from a mean that are small.
        np.testing.assert_allclose(
            spread, np.median(spread, axis=1, keepdims=True) * np.ones(spread.shape[1]), atol=2e-3
        )
        value = np.median(spread, axis=1) - middle
        assert 0.25 < value.max() <= 0.301
        assert -0.301 <= value.min() < -0.25


def test_an_image_of_one_channel_has_no_colour():
    image = IMAGE[..., :1]
    made = coloured(0.3, image, KEYS[0])
    ratio = (made - made.mean()) / (image - image.mean())
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-3)


def few(**fields):
    base = from_dict(vision.get_config("debug"))
    probe = {"evals.sets.probe": {"by": "features", "fit_batches": 20} | fields}
    return study.resolve(override(base, probe))


def test_shots_are_so_many_of_each_class_and_nested():
    labels, chosen = {}, {}
    for shots in (3, 10):
        config = few(shots=shots)
        batches = data.probe_batches(config, "probe")
        rows = [batches.batch(step) for step in range(len(batches))]
        labels[shots] = np.concatenate([row["label"][row["weight"] > 0] for row in rows])
        chosen[shots] = set(batches.selection.tolist())
    assert np.bincount(labels[3]).tolist() == [3] * 10
    assert np.bincount(labels[10]).tolist() == [10] * 10
    assert chosen[3] < chosen[10]


def test_shots_need_a_passes_probe():
    with pytest.raises(ConfigError, match=r"probe.shots=3 changes nothing without .*features"):
        study.resolve(
            override(
                from_dict(vision.get_config("debug")),
                {"evals.sets.probe": {"shots": 3}},
            )
        )
