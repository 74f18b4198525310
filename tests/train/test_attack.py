"""Attacks move every number as far as they may, and the loss up, whatever pieces a batch is in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reading import lines

from configs import knowledge, tiny, vision
from scaling.config import eval_set, from_dict, override
from scaling.costs import sizes
from scaling.errors import ConfigError
from scaling.models.embedding import lookup
from scaling.records import RunDirectory
from scaling.studies import study
from scaling.train.attack import attacked
from scaling.train.attack import moved as moved_in
from scaling.train.loop import train

X = jax.random.normal(jax.random.key(0), (5, 7))
W = jax.random.normal(jax.random.key(1), (7,))


def linear(batch):
    return (batch["features"] @ W).sum()


def bumpy(batch):
    return jnp.sin(3 * batch["features"] @ W).sum()


@pytest.mark.parametrize("steps", [1, 4])
def test_of_a_linear_loss_the_corner_of_the_box_is_found(steps):
    moved = attacked(linear, {"features": X}, 0.2, steps)["features"]
    np.testing.assert_allclose(moved - X, 0.2 * np.sign(W)[None].repeat(5, axis=0), rtol=1e-5)


def test_more_steps_find_more_and_stay_within():
    start, batch = float(bumpy({"features": X})), {"features": X}
    found = {steps: attacked(bumpy, batch, 0.5, steps) for steps in (1, 20)}
    # One step of this size goes over the bumps.
    assert max(start, float(bumpy(found[1]))) < float(bumpy(found[20]))
    assert np.abs(found[20]["features"] - X).max() <= 0.5 + 1e-6


def test_a_row_is_moved_by_its_own_loss_alone():
    whole = attacked(bumpy, {"features": X}, 0.1, 5)["features"]
    part = attacked(bumpy, {"features": X[2:3]}, 0.1, 5)["features"]
    np.testing.assert_allclose(whole[2:3], part, rtol=1e-6)


TOKENS = jax.random.randint(jax.random.key(2), (3, 4), 0, 6)
TABLE = jax.random.normal(jax.random.key(3), (6, 7))


def read(batch, times=1.0):
    """Linear in what the tokens are looked up as."""
    with moved_in(batch) as batch:
        return (lookup(times * TABLE, batch["tokens"], "float32") @ W).sum()


@pytest.mark.parametrize("steps", [1, 4])
def test_of_tokens_what_they_are_looked_up_as_is_moved_by_a_share_of_its_size(steps):
    found = attacked(read, {"tokens": TOKENS}, 0.2, steps)
    rms = np.sqrt(np.mean(np.asarray(TABLE)[TOKENS] ** 2, axis=(1, 2)))
    corner = 0.2 * rms[:, None, None] * np.sign(W) * np.ones((3, 4, 1))
    np.testing.assert_allclose(found["shift"], corner, rtol=1e-5)
    by = float(read(found) - read({"tokens": TOKENS}))
    assert by == pytest.approx(float((corner @ np.asarray(W)).sum()), rel=1e-4)
    # A larger table is no way out.
    larger = attacked(lambda b: read(b, 10.0), {"tokens": TOKENS}, 0.2, steps)
    np.testing.assert_allclose(larger["shift"], 10 * corner, rtol=1e-5)


def test_a_model_that_looks_nothing_up_cannot_be_attacked_so():
    with pytest.raises(ConfigError, match="the model looks nothing up"):
        attacked(lambda batch: batch["tokens"].sum() * 1.0, {"tokens": TOKENS}, 0.1, 1)


def texts(**overrides):
    base = tiny.bare("debug")
    base.train.steps, base.train.log_every = 6, 1
    with base.unlocked():
        base.evals.sets.moved = eval_set(by="attack", epsilon=0.5, steps=3)
    return study.resolve(override(from_dict(base), overrides))


def digits(**overrides):
    base = vision.get_config("debug")
    base.train.epochs, base.train.steps, base.train.log_every = None, 6, 1
    with base.unlocked():
        base.evals.sets.moved = eval_set(by="attack", epsilon=0.5, steps=3)
    return study.resolve(
        override(from_dict(base), {"model.family": "mlp", "model.width": 8} | overrides)
    )


@pytest.mark.slow
@pytest.mark.parametrize("make", [digits, texts])
def test_microbatches_attack_as_the_whole_batch_does(tmp_path, make):
    fields = {"attack.epsilon": 0.2, "attack.steps": 2}
    found = []
    for pieces in (1, 2):
        config = make(**fields, **{"train.microbatches": pieces})
        assert train(config, tmp_path / str(pieces), devices=jax.devices()[:1], quiet=True)
        found.append(lines(RunDirectory.open(config, tmp_path / str(pieces))))
    for one, other in zip(*found, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    moved, val = (next(x for x in found[0] if x["split"] == name) for name in ("moved", "val"))
    assert moved["loss"] > val["loss"]
    assert moved["accuracy"] <= val["accuracy"]


def test_the_passes_of_an_attack_are_counted():
    plain, hard = digits(), digits(**{"attack.epsilon": 0.2, "attack.steps": 3})
    assert sizes.cost(hard).flops == pytest.approx(3 * sizes.cost(plain).flops)


def test_what_cannot_be_moved_is_refused():
    graph = from_dict(knowledge.get_config("transe_debug"))
    with pytest.raises(
        ConfigError, match=r"attack.epsilon=0.1 moves images, vectors or what tokens"
    ):
        study.resolve(override(graph, {"attack.epsilon": 0.1}))
    with pytest.raises(ConfigError, match=r"attack.steps=3 changes nothing without attack.epsilon"):
        digits(**{"attack.steps": 3})
    with pytest.raises(ConfigError, match=r"moved.by=attack moves images, vectors or what"):
        study.resolve(override(graph, {"evals.sets.moved": {"by": "attack"}}))
