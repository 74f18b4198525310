"""Learned keys and values before the text: what they change, and what they leave alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stepping import begun

from configs import bert
from scaling import data, families
from scaling.config import choices, from_dict, override, programs
from scaling.costs import counts
from scaling.errors import ConfigError
from scaling.families.transformer.network import init_cache
from scaling.models import prefix
from scaling.models.flash import Piece
from scaling.optim import subtree
from scaling.records import RunDirectory
from scaling.studies import study
from scaling.train.loop import train
from scaling.train.opened import newest
from scaling.train.step import gradients
from scaling.transforms import transform

LENGTH = 3
PREFIX = {"transform.name": "prefix_tuning", "transform.length": LENGTH, "model.depth": 2}
OWN = {"blocks/attention/prefix_key", "blocks/attention/prefix_value"}


@pytest.fixture(scope="module")
def state(tiny):
    """Parameters of the tiny run with a prefix, moved, so that what begins at zero shows."""
    rng = np.random.default_rng(0)
    params = jax.device_get(begun(tiny(PREFIX))[2].params)
    return jax.tree.map(lambda p: p + 0.3 * rng.normal(size=p.shape).astype(p.dtype), params)


@pytest.mark.slow
def test_the_prefix_alone_is_trained_and_counted(tiny, state):
    config = tiny(PREFIX)
    c = config.model
    trained = transform.trained(config)(state)
    assert {path for path, _ in subtree.leaves(trained)} == OWN
    shape = (2, c.kv_heads, LENGTH, c.head_dim)
    assert {leaf.shape for _, leaf in subtree.leaves(trained)} == {shape}
    assert counts.params_trained(config) == 2 * np.prod(shape)
    assert choices.transform(config.transform).label(config.transform) == "prefix 3"
    pieces = transform.build(config)
    hidden = [_hidden(pieces, config, params) for params in (state, _without(state))]
    assert np.abs(hidden[0] - hidden[1]).max() > 0.01


def _without(state):
    return subtree.where(state, lambda path: path not in OWN)


def _hidden(model, config, params):
    batch = data.train_batches(config).batch(0)
    return jax.device_get(jax.jit(model.apply)({"params": params}, batch)["hidden"])


@pytest.mark.slow
def test_of_no_keys_it_is_the_base_bit_for_bit(tiny, state):
    config = tiny(PREFIX | {"transform.length": 0})
    params = _without(state)
    shape = (2, config.model.kv_heads, 0, config.model.head_dim)
    empty = subtree.nested(dict.fromkeys(OWN, np.zeros(shape, np.float32)))
    base, tuned = families.build(config.model), transform.build(config)
    ours = _hidden(tuned, config, subtree.put(params, empty))
    np.testing.assert_array_equal(ours, _hidden(base, config, params))


@pytest.mark.slow
def test_gradients_go_to_the_prefix_alone(tiny, state):
    config = tiny(PREFIX)
    pieces, batch = begun(config)[0], data.train_batches(config).batch(0)
    hparams, key = programs.hparams(config), jax.random.key(0)
    grads = jax.jit(lambda p: gradients(pieces, 1, p, batch, hparams, key)[0])(state)
    found = dict(subtree.leaves(jax.device_get(grads)))
    assert found.keys() == OWN
    assert all(leaf.any() for leaf in found.values())


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["rope", "alibi"])
def test_with_a_cache_it_says_what_it_says_without(tiny, state, positions):
    config = tiny(PREFIX | {"model.positions": positions})
    model, length = transform.build(config), 6
    rows = np.random.default_rng(1).integers(0, 256, (2, length)).astype(np.int32)
    places = np.tile(np.arange(length, dtype=np.int32), (2, 1))
    batch = {"tokens": rows, "positions": places, "segment_ids": np.ones_like(rows)}
    cache, read = init_cache(config.model, 2, length), jax.jit(model.apply)
    whole = read({"params": state}, batch)["hidden"]
    for place in range(length):
        one = {name: x[:, place : place + 1] for name, x in batch.items()}
        outputs = read({"params": state}, one, cache)
        cache = outputs["cache"]
        # The same sums in another order.
        np.testing.assert_allclose(outputs["hidden"][:, 0], whole[:, place], rtol=1e-5, atol=1e-5)


def test_every_query_sees_the_prefix_and_none_of_it_is_of_a_document():
    rng = np.random.default_rng(0)
    key, value = (jnp.asarray(rng.normal(size=(1, 2, 4)), jnp.float32) for _ in range(2))
    there = jnp.asarray(rng.normal(size=(3, 1, 5, 6)), jnp.float32)
    seen = jnp.zeros((3, 1, 1, 5, 5), bool)
    piece, both = prefix.before(prefix.Prefix(key, value), Piece(there, there, None), seen)
    assert piece.k_BxGxSxK.shape == (3, 1, 7, 6)
    np.testing.assert_array_equal(piece.k_BxGxSxK[1, 0, :2, :4], key[0])
    np.testing.assert_array_equal(piece.v_BxGxSxK[:, :, 2:], there)
    assert not piece.k_BxGxSxK[:, :, :2, 4:].any()
    assert both[..., :2].all()
    assert not both[..., 2:].any()
    assert prefix.before(prefix.Prefix(key, value), Piece(there, there, None), None)[1] is None


def test_models_that_cannot_read_one_are_refused(tiny):
    for fields in ({"model.family": "feedforward"}, {"model.family": "lstm"}):
        config = tiny({"transform.name": "prefix_tuning"} | fields)
        with pytest.raises(ConfigError, match=r"transform\.name=prefix_tuning needs attention"):
            begun(config)
    with pytest.raises(ConfigError, match=r"transform\.modules: 'attend' means none"):
        begun(tiny(PREFIX | {"transform.modules": "attend"}))


@pytest.mark.exhaustive
def test_a_run_begins_with_another_and_has_a_prefix_of_its_own(tmp_path):
    """An encoder of text; and a third begins with the second, its prefix included."""
    base = override(from_dict(bert.get_config("names_debug")), {"train.steps": 2})
    plain = study.resolve(base)
    tuned = {"transform.name": "prefix_tuning", "transform.also": "head", "optim.peak_lr": 0.1}
    runs = [plain]
    for _ in range(2):
        begins = dataclasses.replace(
            base.begins, run=str(RunDirectory.open(runs[-1], tmp_path).path)
        )
        train(runs[-1], tmp_path, devices=jax.devices()[:1], quiet=True)
        runs.append(study.resolve(override(dataclasses.replace(base, begins=begins), tuned)))
    train(runs[-1], tmp_path, devices=jax.devices()[:1], quiet=True)
    first, second, third = (
        dict(subtree.leaves(jax.device_get(newest(RunDirectory.open(c, tmp_path)).state.params)))
        for c in runs
    )
    assert second.keys() - first.keys() == OWN
    moved = {path for path in first if not np.array_equal(first[path], second[path])}
    assert moved == {path for path in first if path.startswith("head/")}
    apart = {path: np.abs(third[path] - second[path]).max() for path in OWN}
    assert max(apart.values()) < 0.5  # two steps of a rate of 0.1 at most, from there
