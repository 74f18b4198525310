"""Log-mel bands against librosa's numbers."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from scaling.models import mel

# Written once with librosa 0.11 (`librosa.feature.melspectrogram`, Hann, zeros beyond the ends, its
# other defaults), which is too large to be installed for one test.
TABLE = json.loads((pathlib.Path(__file__).parent / "librosa_mel.json").read_text())


def sound() -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=1200)
    wave = np.sin(2 * np.pi * 440 * np.arange(1200) / 8000)
    return (0.1 * noise + 0.3 * wave).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_the_bands_are_those_of_librosa(rate: int):
    wanted = np.array(TABLE[str(rate)])
    found = mel.log_mel(jnp.asarray(sound())[None], rate, wanted.shape[1])[0]
    np.testing.assert_allclose(found, np.log(wanted + 1e-6), rtol=1e-5, atol=1e-5)


def test_what_lies_behind_the_end_changes_no_frame_before_it():
    audio = jnp.asarray(sound())[None]
    longer = jnp.pad(audio, ((0, 0), (0, 400)))
    count = mel.frames_of(1200, 8000)
    ours, theirs = (mel.log_mel(x, 8000, 12)[:, :count] for x in (audio, longer))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
