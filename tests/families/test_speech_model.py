"""The acoustic model: what lies behind an utterance, what training hides, what is refused."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.config.contracts import Facts
from scaling.errors import ConfigError
from scaling.families.speech import FAMILY, SpeechModelConfig
from scaling.families.speech.network import Network, _hidden
from scaling.models.dropout import Keys

SIZES = {"vocab": 5, "sample_rate": 2000, "samples_per_token": 60}
SMALL = SpeechModelConfig(width=8, depth=1, heads=2, bands=8, filters=2)


def config(sizes: dict[str, int] | None = None, **fields: Any) -> SpeechModelConfig:
    facts = Facts("", 1, 1, SIZES | (sizes or {}))
    return FAMILY.resolve(dataclasses.replace(SMALL, **fields), facts)


def test_what_stands_behind_the_end_changes_nothing():
    network = Network(config())
    audio = np.random.default_rng(0).normal(size=(2, 1000)).astype(np.float32)
    audio[:, 600:] = 0
    batch = {"audio": jnp.asarray(audio), "samples": jnp.array([600, 600])}
    # As far as the window of the last frame does not reach.
    other = batch | {"audio": batch["audio"].at[1, 680:].set(3.0)}
    params = nn.unbox(jax.jit(network.init)(jax.random.key(0), batch))
    ours, theirs = (jax.jit(network.apply)(params, b) for b in (batch, other))
    np.testing.assert_array_equal(ours["frames"], theirs["frames"])
    count = int(ours["frames"][1])
    assert count == 16  # 600 samples, 20 a frame and one more, halved
    np.testing.assert_allclose(
        ours["frame_logits"][1, :count], theirs["frame_logits"][1, :count], rtol=1e-5, atol=1e-5
    )


def test_training_hides_stripes_of_no_more_than_the_share():
    bands = jnp.ones((64, 30, 20))
    keys = Keys(jax.random.key_data(jax.random.split(jax.random.key(0), 64)))
    found = np.asarray(_hidden(bands, jnp.full(64, 30), keys, 0.5))
    whole_rows, whole_bands = (found.sum(axis=axis) == 0 for axis in (2, 1))
    assert (whole_rows.sum(axis=1) <= 0.5 * 30 + 2).all()
    assert (whole_bands.sum(axis=1) <= 0.5 * 20 + 2).all()
    assert whole_rows.any(axis=1).mean() > 0.5
    shown = ~(whole_rows[:, :, None] | whole_bands[:, None, :])
    np.testing.assert_array_equal(found, shown)
    np.testing.assert_array_equal(_hidden(bands, jnp.full(64, 30), None, 0.5), bands)


@pytest.mark.parametrize(
    ("sizes", "fields", "said"),
    [
        ({}, {"sample_rate": 8000}, r"model\.sample_rate=8000"),
        ({}, {"subsampling": 3}, "power of two"),
        ({"samples_per_token": 59}, {"subsampling": 4}, "a place every 40 ms.*every 30 ms"),
        ({}, {"head_dim": 3}, "must be even"),
    ],
)
def test_what_cannot_be_resolved(sizes: dict[str, int], fields: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        config(sizes, **fields)


def test_data_without_sound_are_refused():
    with pytest.raises(ConfigError, match=r"set data\.kind"):
        FAMILY.resolve(SMALL, Facts("", 1, 1, {"vocab": 5}))
