"""What is frozen stays; the rest trains as it would."""

import jax
import numpy as np
import pytest
from stepping import begun, curve

from scaling import data
from scaling.config import choices, programs
from scaling.errors import ConfigError
from scaling.optim import subtree
from scaling.train import state as state_lib
from scaling.train.step import gradients
from scaling.transforms import transform

FREEZE = {"transform.name": "freeze", "transform.modules": "embedding,blocks/mlp"}


@pytest.mark.slow
def test_frozen_leaves_stay_bit_for_bit_and_the_others_have_the_gradient_that_they_had(tiny):
    plain, config = tiny(), tiny(FREEZE)
    pieces, _, state = begun(config)
    before = jax.device_get(state.params)
    batch, key = data.train_batches(config).batch(0), jax.random.key(0)
    hparams = programs.hparams(config)
    whole, part = (
        jax.device_get(jax.jit(lambda p=p: gradients(p, 1, before, batch, hparams, key)[0])())
        for p in (state_lib.parts(plain), pieces)
    )
    found = dict(subtree.leaves(part))
    assert found.keys() == {
        p for p, _ in subtree.leaves(before) if not p.startswith(("embedding", "blocks/mlp/"))
    }
    for path, leaf in subtree.leaves(subtree.like(whole, part)):
        np.testing.assert_allclose(found[path], leaf, rtol=1e-5, atol=1e-7)  # fused otherwise
    _, after = curve(config, steps=2)
    for path, leaf in subtree.leaves(after):
        assert np.array_equal(leaf, dict(subtree.leaves(before))[path]) == (path not in found)


def test_biases_and_gains_alone_or_a_head_alone_are_trained(tiny):
    leaves = {path: 1 for path, _ in subtree.leaves(begun(tiny())[2].params)}
    for only, wanted in (("bias,scale", {"bias", "scale"}), ("final_norm", {"final_norm"})):
        config = tiny({"transform.name": "freeze", "transform.only": only})
        trained = transform.trained(config)(subtree.nested(leaves))
        paths = {path for path, _ in subtree.leaves(trained)}
        assert paths == {path for path in leaves if wanted & set(path.split("/"))}
        assert paths
        assert choices.transform(config.transform).label(config.transform) == f"{only} alone"
    with pytest.raises(ConfigError, match=r"transform\.modules=blocks changes nothing"):
        tiny({"transform.name": "freeze", "transform.only": "head", "transform.modules": "blocks"})
    with pytest.raises(ConfigError, match=r"transform\.only: 'biases' means none"):
        begun(tiny({"transform.name": "freeze", "transform.only": "biases"}))


def test_to_freeze_everything_is_refused(tiny):
    config = tiny(FREEZE | {"transform.modules": "*"})
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        begun(config)


def test_a_part_of_a_tree_goes_back_to_its_place():
    tree = {"a": {"b": 1, "c": 2}, "d": 3}
    part = subtree.where(tree, lambda path: path != "a/b")
    assert part == {"a": {"c": 2}, "d": 3}
    assert subtree.put(tree, {"a": {"c": 5}}) == {"a": {"b": 1, "c": 5}, "d": 3}
    assert subtree.like(tree, {"a": {"b": None}}) == {"a": {"b": 1}}
    assert tree == {"a": {"b": 1, "c": 2}, "d": 3}  # and nothing is changed in place
