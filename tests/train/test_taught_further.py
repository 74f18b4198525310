"""A student is drawn to its teacher's states, and taught on what it writes itself."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import data, families
from scaling.config import choices, programs
from scaling.config.teacher import described, teacher
from scaling.devices import sharding
from scaling.errors import ConfigError
from scaling.objectives.distillation import distance, divergence, of_own
from scaling.objectives.predictions import logits_of
from scaling.optim import subtree
from scaling.records import RunDirectory
from scaling.train import state as state_lib
from scaling.train.loop import train
from scaling.train.opened import newest
from scaling.train.packed import train_packed
from scaling.train.step import gradients, train_step
from scaling.transforms import transform
from scaling.transforms.beside import MAP, alone
from scaling.transforms.taught import FIELD
from tests.train.reading import final_state

WRITES = {"distill.on_policy": 1.0, "distill.divergence": "reverse", "distill.weight": 1.0}


def begun(config):
    """Pieces, parameters as they are drawn, and the first batch."""
    pieces, batch = state_lib.parts(config), data.train_batches(config).batch(0)
    row = jax.tree.map(lambda x: x[:1], batch)
    params = jax.jit(pieces.model.init)(jax.random.key(0), row)["params"]
    is_box = {"is_leaf": lambda x: hasattr(x, "names")}
    return pieces, jax.tree.map(lambda box: box.value, params, **is_box), batch


def test_divergences_are_those_of_their_formulas():
    rng = np.random.default_rng(0)
    a, b = ({"out": rng.normal(size=(5, 4)).astype(np.float32)} for _ in range(2))
    p, q = (np.exp(x["out"] / 2) for x in (a, b))
    p, q = (x / x.sum(axis=1, keepdims=True) for x in (p, q))

    def kl(one, other):
        return (one * np.log(one / other)).sum(axis=1)

    middle = 0.3 * p + 0.7 * q
    found = divergence(a, b, 2.0, "reverse")
    np.testing.assert_allclose(found, 4 * kl(q, p), rtol=1e-4)
    found = divergence(a, b, 2.0, "jsd", 0.3)
    np.testing.assert_allclose(found, 4 * (0.3 * kl(p, middle) + 0.7 * kl(q, middle)), rtol=1e-4)
    # Towards 0 and 1 it is, over beta and over 1 - beta, the two divergences (2306.13649, sec. 3).
    near = divergence(a, b, 1.0, "jsd", 1e-3) / 1e-3
    np.testing.assert_allclose(near, divergence(a, b, 1.0), rtol=2e-2)
    near = divergence(a, b, 1.0, "jsd", 0.999) / 1e-3
    np.testing.assert_allclose(near, divergence(a, b, 1.0, "reverse"), rtol=2e-2)


def test_equal_states_are_no_distance_and_pull_at_nothing():
    states = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4)), jnp.float32)
    value, slope = jax.value_and_grad(lambda x: distance(x, states).sum())(states)
    assert value == 0
    assert not np.asarray(slope).any()
    np.testing.assert_allclose(distance(3 * states, states), 4.0, rtol=1e-5)
    assert not np.asarray(jax.grad(lambda x: distance(states, x).sum())(2 * states)).any()


def test_a_written_row_weighs_what_the_datas_does_and_its_prompt_nothing():
    weight = jnp.asarray([[1.0, 1, 1, 0, 0, 1], [0.0] * 6])
    found = np.asarray(of_own(weight, 2))
    np.testing.assert_allclose(found[0], [0, 1, 1, 1, 1, 0])
    assert not found[1].any()
    with pytest.raises(ConfigError, match=r"distill\.prompt=6 leaves nothing to write"):
        of_own(weight, 6)


@pytest.mark.slow
def test_the_map_is_trained_and_the_states_gradient_is_a_direct_one(student):
    config = student({"distill.features": 0.7, "distill.weight": 1e-6})
    pieces, params, batch = begun(config)
    assert params[MAP]["w"].shape == (16, 32)
    assert MAP in pieces.trained(params)
    assert "teacher" not in pieces.trained(params)
    hparams, key = programs.hparams(config), jax.random.key(0)
    hparams["distill_weight"] = np.float32(0)

    def grads(features):
        values = hparams | {"distill_features": jnp.float32(features)}
        return gradients(pieces, 1, params, batch, values, key)[0]

    both, none = (jax.jit(grads)(f) for f in (0.7, 0.0))
    own, of_teacher = families.build(config.model), families.build(teacher(config))
    theirs = of_teacher.apply({"params": params["teacher"]}, batch)["hidden"]

    def direct(trained):
        states = own.apply({"params": alone(trained)}, batch)["hidden"]
        mapped = jnp.einsum("bld,df->blf", states, trained[MAP]["w"])
        far = ((mapped - theirs) ** 2).sum(-1) / (theirs**2).sum(-1)
        return 0.7 * (far * batch["loss_mask"]).sum() / batch["loss_mask"].sum()

    wanted = jax.jit(jax.grad(direct))(pieces.trained(params))
    for (path, a), (_, b), (_, c) in zip(*map(subtree.leaves, (both, none, wanted)), strict=True):
        # Sums in another order.
        np.testing.assert_allclose(a - b, c, rtol=1e-4, atol=2e-6, err_msg=path)


def test_the_map_has_the_rate_of_a_hidden_matrix(student):
    mup = {"optim.parametrization": "mup", "optim.base_width": 8}
    for optimizer, rate in (("adamw", 1 / 2), ("sgd", 1 / 2), ("muon", (1 / 2) ** 0.5)):
        config = student({"distill.features": 0.7, "optim.name": optimizer} | mup)
        found = transform.described(config)
        leaf = found.by_path[f"{MAP}/w"]
        # From 16 channels to the teacher's 32, which are as many at the base.
        assert (leaf.role, leaf.fan_in, leaf.fan_out) == ("hidden", 16, 32)
        assert found.values("rate")[leaf.path] == pytest.approx(rate), optimizer
    base = student({"distill.features": 0.7} | mup | {"optim.base_width": 16})
    assert not any(map(transform.described(base).varies, ("init", "forward", "rate", "epsilon")))


@pytest.mark.slow
def test_muon_moves_the_map_by_an_orthogonal_matrix(student):
    config = student(
        {"distill.features": 0.7, "optim.name": "muon", "optim.weight_decay": 0.0}
        | {"optim.warmup_steps": 0, "optim.warmup_fraction": None}
    )
    pieces, batch = state_lib.parts(config), data.train_batches(config).batch(0)
    create = functools.partial(state_lib.create, pieces, config)
    state = sharding.unbox(jax.jit(create)(np.uint32(0)))
    after, _ = jax.jit(functools.partial(train_step, pieces, 1))(
        state, batch, programs.hparams(config)
    )
    still, moved = (one.params[MAP]["w"] for one in (state, after))
    sizes = np.linalg.svd(moved - still, compute_uv=False)
    # Five steps of Newton and Schulz bring singular values near to one, not to it.
    assert sizes.min() > 0.5 * sizes.max() > 0


@pytest.mark.slow
def test_on_its_own_text_the_gradient_is_a_direct_one(student):
    config = student(WRITES | {"distill.prompt": 5})
    pieces, params, batch = begun(config)
    hparams, key = programs.hparams(config), jax.random.key(3)
    prepared = pieces.prepared(batch, key)

    def own_text(params):
        """Token after token, each by the whole model of all before it, by the keys of its row."""
        model, text = families.build(config.model), np.array(batch["tokens"])
        pairs = jax.vmap(jax.random.split)(jax.random.wrap_key_data(prepared[FIELD]))
        keys = jax.vmap(lambda k: jax.random.split(k, 11))(pairs[:, 0])
        text[:, 5:] = 0
        places = np.broadcast_to(np.arange(16), text.shape)
        read = jax.jit(lambda fields: logits_of(model.apply({"params": params}, fields)))
        for at in range(5, 16):
            fields = {"tokens": text, "positions": places, "segment_ids": np.ones_like(text)}
            drawn = jax.vmap(jax.random.categorical)(keys[:, at - 5], read(fields)[:, at - 1])
            text[:, at] = drawn
        return fields | {"tokens": text}

    fields = own_text(alone(params))
    assert (fields["tokens"][:, 5:] != batch["tokens"][:, 5:]).any()
    models = families.build(config.model), families.build(teacher(config))

    def direct(own):
        ours, theirs = (
            jax.nn.log_softmax(logits_of(model.apply({"params": p}, fields)))[:, 4:15]
            for model, p in zip(models, (own, params["teacher"]), strict=True)
        )
        apart = (jnp.exp(ours) * (ours - theirs)).sum(-1).mean(axis=1)
        rows = batch["loss_mask"].sum(axis=1)
        return (apart * rows).sum() / rows.sum()

    wanted = jax.jit(jax.grad(direct))(alone(params))
    found, sums = jax.jit(lambda b: gradients(pieces, 1, params, b, hparams, key))(prepared)
    for (path, a), (_, b) in zip(*map(subtree.leaves, (found, wanted)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6, err_msg=path)
    # What is reported is the loss of the data; and pieces of a batch write the same.
    plain = state_lib.parts(dataclasses.replace(config, distill=type(config.distill)()))
    of_data = jax.jit(lambda p: plain.objective.loss(plain.model, p, batch, key))(alone(params))
    np.testing.assert_allclose(sums["loss"].total, of_data[1]["loss"].total, rtol=1e-6)
    halves = jax.jit(lambda b: gradients(pieces, 2, params, b, hparams, key))(prepared)[0]
    for (path, a), (_, b) in zip(*map(subtree.leaves, (found, halves)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6, err_msg=path)


def test_what_cannot_be_taught_so_is_named(tiny, student):
    for fields, message in (
        ({"distill.beta": 0.1}, r"distill\.beta=0\.1 changes nothing without"),
        ({"distill.prompt": 3}, r"distill\.prompt=3 changes nothing without distill\.on_policy"),
        ({"distill.on_policy": 1.5}, r"distill\.on_policy=1\.5 must lie between 0 and 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            state_lib.parts(student(fields))
    with pytest.raises(ConfigError, match=r"distill\.features=1\.0 changes nothing without"):
        tiny({"distill.features": 1.0})
    lone = described(choices.new("model", "mlp"))
    with pytest.raises(ConfigError, match=r"give no states alike"):
        state_lib.parts(student({"distill.features": 1.0, "distill.teacher": lone}))


@pytest.mark.exhaustive
def test_it_goes_on_as_if_it_had_not_been_cut_and_packed_as_alone(tiny, tmp_path):
    """Stopped and continued: bit for bit. Packed: as another program rounds."""
    one = {"devices": jax.devices()[:1], "quiet": True}
    wide = tiny({"model.width": 32, "train.steps": 1})
    train(wide, tmp_path, **one)
    path = str(RunDirectory.open(wide, tmp_path).path)
    fields = {"begins.run": path, "train.steps": 3, "distill.weight": 0.8}
    fields |= {"distill.on_policy": 0.5, "distill.features": 0.5}
    runs = [tiny(fields | {"seed": seed}) for seed in (0, 1)]
    for config in runs:
        assert train(config, tmp_path / "alone", **one).status == "done"
    for pause in (2, None):
        train(runs[0], tmp_path / "cut", pause=pause, **one)
    ended = [newest(RunDirectory.open(runs[0], tmp_path / at)) for at in ("alone", "cut")]
    jax.tree.map(np.testing.assert_array_equal, *(jax.device_get(end.state) for end in ended))
    assert MAP not in ended[0].used
    train_packed(runs, tmp_path / "packed", **one)
    for config in runs:
        states = [
            final_state(RunDirectory.open(config, tmp_path / at)) for at in ("alone", "packed")
        ]
        for a, b in zip(*states, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
