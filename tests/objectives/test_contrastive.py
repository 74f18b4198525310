"""Contrastive losses against sums over pairs, one after the other."""

import jax.numpy as jnp
import numpy as np
import pytest

from scaling.objectives.contrastive import ContrastiveConfig
from scaling.objectives.contrastive.rows import rows

ROWS, SCALE = 6, 3.0
MEANING, WEIGHT = [1, 2, 3, 2, 4, 5], [1, 1, 1, 1, 1, 0]  # 1 and 3 mean the same; 5 fills up


def outputs(bias: float | None = None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(2, ROWS, 4)).astype(np.float32)
    image[5] = np.nan
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text)]
    found = {"image_embedding": unit[0], "text_embedding": unit[1]}
    found["log_scale"] = np.log(np.float32([SCALE]))
    return found | ({} if bias is None else {"bias": np.float32([bias])})


def batch() -> dict[str, np.ndarray]:
    return {"meaning": np.int32(MEANING), "weight": np.float32(WEIGHT)}


def compared(i: int) -> list[int]:
    return [j for j in range(5) if j == i or MEANING[j] != MEANING[i]]


def similarities() -> np.ndarray:
    of = outputs()
    return SCALE * np.float64(of["image_embedding"]) @ np.float64(of["text_embedding"]).T


def found(loss: str, bias: float | None = None):
    of = {name: jnp.asarray(x) for name, x in outputs(bias).items()}
    return rows(ContrastiveConfig(loss=loss)).rows_of(of, batch())


def test_softmax_is_the_mean_of_both_directions_over_what_is_compared():
    z = similarities()
    for i in range(5):
        logs = [np.log(np.sum(np.exp(x[i, compared(i)]))) - x[i, i] for x in (z, z.T)]
        np.testing.assert_allclose(found("softmax").minimised[i], np.mean(logs), rtol=1e-5)
    assert found("softmax").minimised[5] == 0


@pytest.mark.parametrize("bias", [None, -2.0])
def test_sigmoid_is_over_pairs(bias: float | None):
    z = similarities() + (bias or 0.0)
    for i in range(5):
        signs = [(1 if j == i else -1) for j in compared(i)]
        nats = sum(np.log1p(np.exp(-s * z[i, j])) for s, j in zip(signs, compared(i), strict=True))
        np.testing.assert_allclose(found("sigmoid", bias).minimised[i], nats, rtol=1e-5)


def test_the_share_at_rank_one_leaves_out_what_means_the_same():
    z, sums = similarities(), found("softmax").sums
    for name, x in (("image_to_text", z), ("text_to_image", z.T)):
        first = [max(compared(i), key=lambda j: x[i, j]) == i for i in range(5)]
        assert float(sums[name].total.sum()) == sum(first)
        assert float(sums[name].count.sum()) == 5
