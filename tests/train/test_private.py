"""Clipped gradients are those of a loop over examples, and what a run says of its privacy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import gan, vision
from scaling import data
from scaling.config import from_dict, override, programs
from scaling.devices import meshes
from scaling.errors import ConfigError
from scaling.records import RunDirectory
from scaling.records.tables import table
from scaling.studies import study
from scaling.train import private
from scaling.train import state as state_lib
from scaling.train.loop import train
from scaling.train.step import gradients


def digits(**overrides):
    fields = {"model.family": "mlp", "model.width": 8, "train.epochs": None, "train.steps": 6}
    base = override(from_dict(vision.get_config("debug")), fields | {"train.batch_size": 8})
    return study.resolve(override(base, overrides))


@functools.cache
def setting():
    """(pieces, parameters, a batch, hyper-parameters) of a run with gradients clipped at 0.5."""
    config = digits(**{"privacy.clip_norm": 0.5, "privacy.noise": 2.0})
    pieces, mesh = state_lib.parts(config), meshes.make_mesh(config.mesh, jax.devices()[:1])
    params = state_lib.init(pieces, config, state_lib.layout(pieces, config, mesh)).params
    batch = jax.tree.map(jnp.asarray, data.train_batches(config).batch(0))
    return pieces, params, batch, jax.tree.map(jnp.asarray, programs.hparams(config))


def by_hand(most: float):
    pieces, params, batch, hparams = setting()
    total, norms = jax.tree.map(jnp.zeros_like, params), []

    @jax.jit
    def of_row(row):
        def loss(params):
            return pieces.objective.loss(pieces.model, params, row, jax.random.key(0), hparams)[0]

        return jax.grad(loss)(params)

    for row in range(8):
        grad = of_row({name: x[row : row + 1] for name, x in batch.items()})
        norms.append(float(optax.tree.norm(grad)))
        factor = min(1.0, most / norms[-1])
        total = jax.tree.map(lambda t, g, f=factor: t + f * g, total, grad)
    return total, norms


@pytest.mark.parametrize("most", [0.5, 1e6])
def test_they_are_those_of_a_loop_over_examples(most):
    pieces, params, batch, hparams = setting()

    def loss(params, piece):
        return pieces.objective.loss(pieces.model, params, piece, jax.random.key(0), hparams)

    found, sums = jax.jit(lambda p, b: private.clipped(loss, p, b, most))(params, batch)
    wanted, norms = by_hand(most)
    assert max(norms) > 0.5
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert sums["loss"].count == 8


def test_the_noise_is_of_the_sum_and_of_the_step_alone():
    pieces, params, batch, hparams = setting()
    compiled = jax.jit(lambda key: gradients(pieces, 1, params, batch, hparams, key)[0])
    first, again, other = (compiled(jax.random.key(seed)) for seed in (1, 1, 2))
    clean, _ = by_hand(0.5)
    noise = np.concatenate(
        [
            np.ravel(8 * f - c)
            for f, c in zip(jax.tree.leaves(first), jax.tree.leaves(clean), strict=True)
        ]
    )
    assert noise.std() == pytest.approx(0.5 * 2.0, rel=0.1)  # of 700 numbers
    assert abs(noise.mean()) < 0.15
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), first, again)))
    assert not np.allclose(jax.tree.leaves(first)[0], jax.tree.leaves(other)[0])


@pytest.mark.slow
def test_a_table_says_epsilon_and_microbatches_change_nothing(tmp_path):
    losses = []
    for pieces in (1, 2):
        fields = {"privacy.clip_norm": 0.5, "privacy.noise": 1.0, "train.microbatches": pieces}
        config = digits(**fields)
        workdir = tmp_path / str(pieces)
        assert train(config, workdir, devices=jax.devices()[:1], quiet=True).status == "done"
        (row,) = table(workdir).to_dict("records")
        losses.append(row["loss"])
        assert row["epsilon"] > 0
        assert RunDirectory.open(config, workdir).status()["state"] == "done"
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"privacy.noise": 2.0}, r"privacy.noise=2.0 changes nothing without privacy.clip_norm"),
        ({"privacy.clip_norm": 0.0}, r"privacy.clip_norm=0.0 must be positive"),
        ({"privacy.clip_norm": 1.0, "augment.mixup": 0.2}, r"mix examples; leave them at 0"),
        (
            {"privacy.clip_norm": 1.0, "train.noise_scale": True, "train.microbatches": 2},
            r"train.noise_scale=True cannot go together",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(fields, said):
    with pytest.raises(ConfigError, match=said):
        digits(**fields)


def test_players_have_no_loss_of_one_example():
    base = from_dict(gan.get_config("debug"))
    with pytest.raises(ConfigError, match=r"has a loss of several together"):
        study.resolve(override(base, {"privacy.clip_norm": 1.0}))
