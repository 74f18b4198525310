"""Players: each on its own loss and parameters, with its own optimizer, steps and learning rate.

Two matrices that play a small game: "up" scores rows by its matrix, "down" makes rows from noise.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import optim
from scaling.config import OptimConfig, RunConfig
from scaling.config.contracts import Player
from scaling.config.programs import hparams as hparams_of
from scaling.config.run import TrainConfig
from scaling.errors import ConfigError
from scaling.objectives import draws
from scaling.objectives.objective import Batch, Loss, Rows, Sum
from scaling.train.state import Parts, TrainState
from scaling.train.step import gradients, train_step, train_steps

ROWS, WIDTH = 8, 3
PLAYERS = (
    Player("down", frozenset({"maker"}), every="down_every", rate="down_rate"),
    Player("up", frozenset({"scorer"})),
)


class Game(nn.Module):
    """Rows from keys, and scores of rows."""

    @nn.compact
    def __call__(self, batch: Batch) -> dict[str, Any]:
        maker = self.param("maker", nn.initializers.normal(1.0), (WIDTH, WIDTH))
        scorer = self.param("scorer", nn.initializers.normal(1.0), (WIDTH,))
        if "key" in batch:
            noise = jax.vmap(lambda key: jax.random.normal(key, (WIDTH,)))(batch["key"])
            return {"made": jnp.tanh(noise @ maker)}
        return {"score": jnp.tanh(batch["x"] @ scorer)}


def _rows(model: Any, batch: Batch, keys_B: Any, hparams: Any) -> Rows:
    made = model({"key": keys_B})["made"]
    real, fake = model({"x": batch["x"]})["score"], model({"x": made})["score"]
    weight = batch["weight"]
    up, down = (fake - real + fake**2) * weight, -fake * weight
    sums = {"loss": Sum(up, weight), "down": Sum(down, weight)}
    return Rows({"up": up, "down": down}, {}, sums)


LOSS = Loss(None, {}, rows_by=_rows, players=PLAYERS)
OPTIM = OptimConfig(schedule="constant", warmup_steps=0, warmup_fraction=None, clip_norm=0.5)
PIECES = Parts(Game(), LOSS, optim.build(OPTIM, PLAYERS))
RNG = np.random.default_rng(0)
BATCH = {
    "x": jnp.asarray(RNG.normal(size=(ROWS, WIDTH)), jnp.float32),
    "weight": jnp.asarray([1, 1, 0, 1, 1, 1, 0, 1], jnp.float32),
}


def hparams(every: int = 1, rate: float = 1.0) -> dict[str, Any]:
    config = RunConfig(optim=OPTIM, train=TrainConfig(steps=10))
    of_players = {"down_every": jnp.float32(every), "down_rate": jnp.float32(rate)}
    return {k: jnp.asarray(v) for k, v in hparams_of(config).items()} | of_players


def state() -> TrainState:
    params = Game().init(jax.random.key(1), {"x": BATCH["x"]})["params"]
    return TrainState(jnp.int32(0), params, PIECES.optimizer.init(params), None)


def equal(one: Any, other: Any) -> bool:
    return all(
        np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True)
    )


def gradient_of(function: Any) -> Any:
    return jax.grad(lambda p: function(Game(), p, BATCH, jax.random.key(2), {})[0])(state().params)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("player", "own", "others"), [(0, "maker", "scorer"), (1, "scorer", "maker")]
)
def test_a_player_gives_the_parameters_of_others_no_gradient(player, own, others):
    """Although its loss depends on them."""
    one = PLAYERS[player]
    gradient = gradient_of(lambda *args: LOSS.of_player(one, *args))
    assert np.all(gradient[others] == 0)
    assert np.any(gradient[own] != 0)

    def free(params: Any) -> Any:
        keys = draws.keys(jax.random.key(2), BATCH)
        model = lambda fields: Game().apply({"params": params}, fields)  # noqa: E731
        return _rows(model, BATCH, keys, {}).minimised[one.name].sum()

    whole = jax.grad(free)(state().params)
    assert np.any(whole[others] != 0)
    np.testing.assert_array_equal(gradient[own], whole[own])
    # One gradient has them all, each of its own player's loss.
    np.testing.assert_array_equal(gradient_of(LOSS.loss)[own], whole[own])


@pytest.mark.parametrize("microbatches", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_microbatches_are_the_batch(microbatches):
    """Rows draw the same noise in whatever piece they lie."""
    args = (state().params, BATCH, hparams(), jax.random.key(3))
    whole, sums = gradients(PIECES, 1, *args)
    pieces, sums_of_pieces = gradients(PIECES, microbatches, *args)
    for one, other in ((whole, pieces), (sums, sums_of_pieces)):  # sums in another order
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, other
        )


def test_each_has_an_optimizer_of_its_own():
    """As two runs of one optimizer each, clipped by its own norm, at its own rate."""
    h, before = hparams(rate=3.0), state()
    grads, _ = gradients(PIECES, 1, before.params, BATCH, h, jax.random.key(3))
    after, opt_state, info = PIECES.optimizer.update(
        grads, before.opt_state, before.params, jnp.int32(0), h
    )
    assert set(opt_state) == {"up", "down"}
    one = optim.build(OPTIM)
    for name, part, rate in (("down", "maker", 3.0), ("up", "scorer", 1.0)):
        own = {part: before.params[part]}
        mine = h | {"peak_lr": h["peak_lr"] * rate}
        wanted, state_of, _ = one.update(
            {part: grads[part]}, one.init(own), own, jnp.int32(0), mine
        )
        assert equal({part: after[part]}, wanted)
        assert equal(opt_state[name], state_of)
        assert info[f"lr/{name}"] == mine["peak_lr"]
    norms = [float(info[f"grad_norm/{name}"]) for name in ("up", "down")]
    assert info["grad_norm"] == pytest.approx(np.hypot(*norms), rel=1e-6)
    assert info["lr"] == h["peak_lr"]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_one_that_waits_stays_as_it_is(every):
    """Bit for bit, moments and weight decay included; the steps between are a traced number."""
    h, now = hparams(every), state()
    step = jax.jit(lambda state, h: train_step(PIECES, 1, state, BATCH, h))
    for number in range(1, 7):
        after, metrics = step(now, h)
        due = number % every == 0
        assert equal(after.params["maker"], now.params["maker"]) != due
        assert equal(after.opt_state["down"], now.opt_state["down"]) != due
        assert not equal(after.params["scorer"], now.params["scorer"])
        assert (metrics["lr/down"] > 0) == due
        now = after
    assert step._cache_size() == 1


def test_several_steps_in_one_call_are_steps():
    h, one, batches = hparams(2), state(), jax.tree.map(lambda x: jnp.stack([x] * 4), BATCH)
    many, metrics_K = train_steps(PIECES, 1, one, batches, jnp.int32(3), h)
    for i in range(3):
        one, metrics = jax.jit(lambda s: train_step(PIECES, 1, s, BATCH, h))(one)
        np.testing.assert_allclose(metrics_K["loss"][i], metrics["loss"], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), many, one)


def test_rows_draw_by_what_stands_in_them():
    key = jax.random.key(0)
    data = lambda batch: np.asarray(jax.random.key_data(draws.keys(key, batch)))  # noqa: E731
    keys = data(BATCH)
    assert len({tuple(k) for k in keys}) == ROWS
    order = np.asarray([3, 0, 7, 1, 2, 6, 5, 4])
    np.testing.assert_array_equal(data({n: x[order] for n, x in BATCH.items()}), keys[order])
    other = draws.keys(jax.random.key(1), BATCH)
    assert not np.any(np.all(np.asarray(jax.random.key_data(other)) == keys, axis=1))
    moved = data(BATCH | {"x": BATCH["x"].at[2, 1].add(1e-3)})
    assert [i for i in range(ROWS) if np.any(moved[i] != keys[i])] == [2]


def test_hashes_of_many_rows_differ():
    """Two of 2000 in 2^32 are equal in one of two thousand trials."""
    x = np.random.default_rng(1).integers(0, 17, size=(2000, 64)).astype(np.float32)
    batch = {
        "x": jnp.asarray(x),
        "flag": jnp.ones(2000, bool),
        "half": jnp.ones(2000, jnp.bfloat16),
    }
    assert len(np.unique(np.asarray(draws.row_hash(batch)))) == 2000


def test_parameters_of_nobody_are_refused():
    with pytest.raises(ConfigError, match=r"has players for maker, scorer, but what is trained is"):
        PIECES.optimizer.init({"maker": jnp.zeros(2), "scorer": jnp.zeros(2), "rest": jnp.zeros(2)})
