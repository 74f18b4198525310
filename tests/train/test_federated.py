"""Rounds of clients: what the optimizer is given, against a loop over clients and their steps."""

import jax
import numpy as np
import pytest

from configs import vision
from scaling import data
from scaling.config import from_dict, override, programs
from scaling.errors import ConfigError
from scaling.studies import study
from scaling.train import state as state_lib
from scaling.train.step import gradients
from tests.train.reading import lines

FEDERATED = {"federated.clients": 12, "federated.per_round": 3, "federated.local_lr": 0.2}


@pytest.fixture(scope="module")
def make():
    base = override(
        from_dict(vision.get_config()),
        {
            **{
                "model.family": "mlp",
                "model.width": 8,
                "model.depth": 1,
                "train.batch_size": 24,
                "train.epochs": None,
            },
            **{"train.steps": 4, "optim.name": "sgd", "evals.batches": 1, "train.log_every": 1},
            **{"model.dropout": 0.0},
        },
    )
    return lambda fields=None: study.resolve(override(base, fields or {}))


def first(config):
    """Parts, first parameters, first batch, hyper-parameters, key."""
    pieces = state_lib.parts(config)
    params = jax.tree.map(
        lambda box: np.asarray(box.value),
        state_lib.create(pieces, config, np.uint32(0)).params,
        is_leaf=lambda x: hasattr(x, "value"),
    )
    batch = data.train_batches(config).batch(0)
    return pieces, params, batch, programs.hparams(config), jax.random.key(0)


@pytest.mark.slow
def test_one_local_step_is_the_gradient_of_the_batch(make):
    config = make(FEDERATED)
    pieces, params, batch, hparams, key = first(config)
    ours, sums = gradients(pieces, 1, params, batch, hparams, key)
    plain = state_lib.parts(make())
    theirs, expected = gradients(plain, 1, params, batch, hparams, key)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        # (p - (p - lr g)) / lr: a difference of numbers that are larger than what is left
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(sums["loss"].mean, expected["loss"].mean, rtol=1e-5)


def test_several_are_the_mean_of_clients_who_step_by_themselves(make):
    config = make(FEDERATED | {"federated.local_steps": 4})
    pieces, params, batch, hparams, key = first(config)
    ours, sums = gradients(pieces, 1, params, batch, hparams, key)
    plain = state_lib.parts(make())
    of = jax.jit(lambda p, rows: gradients(plain, 1, p, rows, hparams, key))
    ends, losses = [], []
    for client in range(3):
        own = params
        for step in range(4):
            at = client * 8 + step * 2
            grads, found = of(own, {name: x[at : at + 2] for name, x in batch.items()})
            losses += [float(found["loss"].mean)] if step == 0 else []
            own = jax.tree.map(lambda p, g: p - 0.2 * g, own, grads)
        ends.append(own)
    mean = jax.tree.map(lambda *x: np.mean(x, axis=0), *ends)
    expected = jax.tree.map(lambda p, q: (p - q) / 0.2, params, mean)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(sums["loss"].mean, np.mean(losses), rtol=1e-5)


@pytest.mark.slow
def test_packed_runs_of_other_skew_and_rate_are_alone(make, tmp_path):
    from scaling.records import RunDirectory
    from scaling.train.loop import train
    from scaling.train.packed import train_packed

    more = {"federated.skew": 1.0, "federated.local_lr": 0.05}
    configs = [make(FEDERATED | {"federated.local_steps": 2} | one) for one in ({}, more)]
    one = jax.devices()[:1]
    train_packed(configs, tmp_path / "packed", devices=one, quiet=True)
    for config in configs:
        train(config, tmp_path / "alone", devices=one, quiet=True)
        ours, theirs = (lines(RunDirectory.open(config, tmp_path / w)) for w in ("packed", "alone"))
        for line, expected in zip(ours, theirs, strict=True):
            assert line["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert ours[0]["loss"] != lines(RunDirectory.open(configs[0], tmp_path / "packed"))[0]["loss"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"federated.clients": 2}, r"federated\.per_round=3 is more than federated\.clients=2"),
        ({"federated.local_steps": 5}, r"train\.batch_size=24 .* is not divided by"),
        ({"train.microbatches": 2}, r"federated\.clients=12 and train\.microbatches"),
        ({"federated.clients": None}, r"federated\.clients"),
    ],
)
def test_what_cannot_be_is_named(make, fields, named):
    with pytest.raises(ConfigError, match=named):
        make(FEDERATED | fields)
