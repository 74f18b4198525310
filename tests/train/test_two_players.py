"""A run with two players trains, stops, goes on, is packed and moved as any other does."""

import functools
import threading
from typing import Any

import jax
import numpy as np
import pytest
from reading import final_state, lines

from scaling import data, families
from scaling.config import RunConfig, choices, override, programs
from scaling.devices import meshes, sharding
from scaling.objectives import objective as objective_lib
from scaling.objectives.adversarial import OBJECTIVE
from scaling.records import RunDirectory
from scaling.studies import study
from scaling.train import state as state_lib
from scaling.train.evaluate import Evaluator
from scaling.train.loop import train
from scaling.train.packed import train_packed
from scaling.train.step import gradients

# Minutes of compilation on two cores: a GAN has two networks, each forward and backward.
pytestmark = pytest.mark.exhaustive

CONFIG = {
    "model.width": 4,
    "model.latent": 4,
    "objective.r1": 0.5,
    "optim.peak_lr": 1e-2,
    "optim.warmup_fraction": None,
    "optim.warmup_steps": 0,
    "optim.ema_decay": 0.9,
    "train.batch_size": 8,
    "train.steps": 4,
    "train.log_every": 1,
    "train.fingerprint_every": 2,
    "evals.every": 2,
    "evals.batches": 2,
    "evals.batch_size": 8,
}


@functools.cache
def resolved(**fields: Any) -> RunConfig:
    run = RunConfig(
        *(
            choices.new(*c)
            for c in (("model", "gan"), ("data", "images"), ("objective", "adversarial"))
        )
    )
    return study.resolve(
        override(run, CONFIG | {k.replace("__", "."): v for k, v in fields.items()})
    )


def state_and_batch() -> Any:
    config = resolved()
    pieces = state_lib.parts(config)
    mesh = meshes.make_mesh(config.mesh, jax.devices()[:1])
    state = state_lib.init(pieces, config, state_lib.layout(pieces, config, mesh))
    return state, data.train_batches(config).batch(0)


def test_each_player_gives_the_other_no_gradient():
    """Exactly none, in a network where each loss depends on both."""
    state, batch = state_and_batch()
    loss = objective_lib.build(resolved().objective)
    model = families.build(resolved().model)
    hparams = programs.hparams(resolved())
    for player in loss.players:
        (other,) = state.params.keys() - player.parameters

        @jax.jit
        @jax.grad
        def gradient(params: Any, player: Any = player) -> Any:
            return loss.of_player(player, model, params, batch, jax.random.key(1), hparams)[0]

        found = gradient(state.params)
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(found[other]))
        assert all(np.any(leaf) for leaf in jax.tree.leaves(found[player.name]))


def test_microbatches_are_the_batch():
    state, batch = state_and_batch()
    pieces, hparams = state_lib.parts(resolved()), programs.hparams(resolved())
    found = [
        jax.jit(functools.partial(gradients, pieces, count))(
            state.params, batch, hparams, jax.random.key(1)
        )
        for count in (1, 4)
    ]
    # The same sums in another order.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *found)


def run_of(config: RunConfig, workdir: Any, devices: int = 1) -> RunDirectory:
    assert train(config, workdir, devices=jax.devices()[:devices], quiet=True).status == "done"
    return RunDirectory.open(config, workdir)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return run_of(resolved(), tmp_path_factory.mktemp("whole"))


def test_a_run_writes_the_numbers_of_both(whole):
    trained, validated = (
        {line["split"]: line for line in lines(whole)}[n] for n in ("train", "val")
    )
    assert {"loss", "generator_loss", "grad_norm/generator", "lr/discriminator"} <= trained.keys()
    assert OBJECTIVE.metrics.keys() <= validated.keys()
    assert all(np.isfinite(v) for v in validated.values() if isinstance(v, float))
    names = whole.hashes()[4]
    assert any(name.startswith("optimizer/generator/") for name in names)
    assert any(name.startswith("ema/discriminator/") for name in names)


def test_stopped_and_gone_on_is_uninterrupted(whole, tmp_path):
    """Bit for bit: what is drawn follows from seed and step."""
    stop = threading.Event()
    stop.set()  # after the first call
    one = jax.devices()[:1]
    assert train(resolved(), tmp_path, devices=one, stop=stop, quiet=True).status == "stopped"
    again = run_of(resolved(), tmp_path)
    assert lines(again) == lines(whole)
    for ours, theirs in zip(final_state(again), final_state(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_mesh_gives_the_same_losses(whole, tmp_path):
    """Every device draws what one would for its rows; sums in another order, through Adam."""
    there = run_of(override(resolved(), {"mesh.fsdp": 2}), tmp_path, devices=4)
    for ours, theirs in zip(lines(there), lines(whole), strict=True):
        for name in ("loss", "generator_loss"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4), (ours["step"], name)


@pytest.mark.parametrize("form", ["loop", "vmap"])
def test_packed_is_alone(whole, tmp_path, form):
    """Runs that differ in how often and how fast a player learns share a program."""
    rates = {"objective.generator_every": 2, "objective.generator_rate": 0.5, "objective.r1": 2.0}
    others = override(resolved(), rates)
    alone = run_of(others, tmp_path / "alone")
    outcomes = train_packed(
        [resolved(), others], tmp_path, devices=jax.devices()[:1], quiet=True, form=form
    )
    assert [getattr(o, "status", o) for o in outcomes] == ["done", "done"]
    for config, wanted in ((resolved(), whole), (others, alone)):
        found = RunDirectory.open(config, tmp_path)
        for ours, theirs in zip(lines(found), lines(wanted), strict=True):
            for name in ("loss", "generator_loss", "update_norm", "feature_distance"):
                # Another program rounds otherwise, and Adam takes the sign of what is small.
                if name in theirs:
                    assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name


def test_an_evaluation_draws_the_same_always():
    """And for each image something else: two of its batches have no sample in common."""
    config = resolved()
    pieces = state_lib.parts(config)
    mesh = meshes.make_mesh(config.mesh, jax.devices()[:1])
    plan = state_lib.layout(pieces, config, mesh)
    state, batches = state_lib.init(pieces, config, plan), data.eval_batches(config, "val")
    with sharding.context(mesh):
        evaluator = Evaluator(config, pieces, plan)
        first, again = (evaluator(state.params) for _ in range(2))
        rows_of = jax.jit(functools.partial(pieces.objective.rows, pieces.model))
        made = [
            np.asarray(rows_of(state.params, batches.batch(i))["generator_loss"].total)
            for i in (0, 1)
        ]
    assert first == again
    assert len(np.unique(np.concatenate(made))) == 16
