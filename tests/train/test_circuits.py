"""What is said of a model from inside: the lens, and random text that is read twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reading import lines

from scaling.config import override
from scaling.errors import ConfigError
from scaling.metrics import statistics
from scaling.metrics.finish import best
from scaling.records import RunDirectory
from scaling.records.tables import table
from scaling.train.circuits import twice
from scaling.train.loop import train
from scaling.train.packed import train_packed

SETS = {
    "evals.sets.twice": {"by": "induction"},
    "evals.sets.lens1": {"by": "lens", "blocks": 1},
    "evals.sets.whole": {"by": "lens"},
}


def of_set(found: list[dict], name: str) -> dict:
    """What an evaluation measured last."""
    last = [line for line in found if line["split"] == name][-1]
    return {k: v for k, v in last.items() if k != "split" and not k.startswith("time/")}


TOKENS = jnp.array([[3, 1, 4, 1, 3, 1, 4, 1], [0, 1, 2, 3, 0, 1, 2, 3]])


def test_a_head_made_by_hand_has_the_score_it_should():
    same = np.zeros((2, 8, 8), np.float32)
    for row, tokens in enumerate(np.asarray(TOKENS)):
        for t in range(4, 8):
            behind = [s for s in range(1, t + 1) if tokens[s - 1] == tokens[t]]
            same[row, t, behind[0]] = 1
    perfect, previous = jnp.asarray(same), jnp.eye(8, k=-1)[None].repeat(2, axis=0)
    even = jnp.tril(jnp.ones((8, 8)))[None].repeat(2, axis=0)
    even /= even.sum(axis=-1, keepdims=True)
    weights = jnp.stack([perfect, previous, even], axis=1)
    found = statistics.matching(weights, TOKENS, 4).sum(axis=0)
    share = found[:, 0] / found[:, 1]
    # Of even weights: in the second row one place of 5, 6, 7 and 8; in the first 1, 2, 1 and 3. The
    # place before is one of them where a token came two places earlier.
    counts = [[1, 2, 1, 3], [1, 1, 1, 1]]
    evenly = np.mean([[n / (t + 5) for t, n in enumerate(row)] for row in counts])
    np.testing.assert_allclose(share, [1, 2 / 8, evenly], rtol=1e-5)
    assert best(np.asarray(found)[None]) == pytest.approx(1)
    back = statistics.back(weights, 4).sum(axis=0)
    assert (back[:, 0] / back[:, 1])[1] == 1


def test_a_text_is_read_twice_without_its_order():
    tokens = np.arange(24, dtype=np.int32).reshape(2, 12)
    mask = np.stack([np.ones(12), np.zeros(12)]).astype(np.float32)
    batch = {"tokens": tokens, "loss_mask": mask, "segment_ids": tokens}
    found = twice({name: jnp.asarray(x) for name, x in batch.items()})
    first, second = np.split(np.asarray(found["tokens"]), 2, axis=1)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(second[1] - second[0], 12)  # all rows shuffled alike
    assert len(set(first[0])) == 6
    assert first[0].tolist() != sorted(first[0])
    np.testing.assert_array_equal(found["targets"][:, :-1], found["tokens"][:, 1:])
    assert "segment_ids" not in found
    np.testing.assert_array_equal(found["loss_mask"].sum(axis=1), [11, 0])


@pytest.mark.slow
def test_a_run_records_them_packed_as_alone(tiny, tmp_path):
    config = tiny({"model.depth": 2, "train.steps": 4, "evals.every": 4} | SETS)
    both = [config, override(config, {"seed": 1})]
    devices = jax.devices()[:1]
    train(config, tmp_path / "alone", devices=devices, quiet=True)
    train_packed(both, tmp_path / "packed", devices=devices, quiet=True, form="loop")
    found = lines(RunDirectory.open(config, tmp_path / "alone"))
    again = lines(RunDirectory.open(config, tmp_path / "packed"))
    for name in ("val", "twice", "lens1", "whole"):
        one, other = of_set(found, name), of_set(again, name)
        # Other programs add up in another order.
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)
    val, lens = of_set(found, "val"), of_set(found, "lens1")
    assert of_set(found, "whole") == pytest.approx(val, rel=1e-5)
    assert abs(lens["loss"] - val["loss"]) > 1e-3
    numbers = of_set(found, "twice")
    assert 0 < numbers["induction"] < 1
    assert 0 < numbers["previous_token"] < 1
    # The gain is the first time's loss less the second's, which is there by itself.
    assert numbers["copy_loss"] + numbers["copy_gain"] > 0
    row = table(tmp_path / "alone").iloc[0]
    assert row["induction/twice"] == numbers["induction"]
    assert row["loss/lens1"] == lens["loss"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"by": "lens", "blocks": 2}, r"more\.blocks=2 is more than model\.depth=1"),
        ({"by": "lens", "blocks": -1}, r"more\.blocks=-1 must not be negative"),
        ({"blocks": 1}, r"more\.blocks=1 changes nothing without .*by=features or lens"),
    ],
)
def test_blocks_that_there_are_not_are_refused(tiny, fields, said):
    with pytest.raises(ConfigError, match=said):
        tiny({"evals.sets.more": fields})


def test_a_model_without_equal_blocks_has_no_lens(tiny):
    with pytest.raises(ConfigError, match=r"needs a stack of equal blocks, not given by .*=lstm"):
        tiny({"model.family": "lstm", "evals.sets.more": {"by": "lens", "blocks": 1}})
