"""Schedules at key points, optimizers against optax, and hyper-parameters as traced values."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling import optim
from scaling.config import OptimConfig, RunConfig, TrainConfig, programs

SCHEDULES = ("cosine", "wsd", "linear", "rsqrt", "constant")
NAMES = ("adamw", "adafactor", "lion", "sgd", "adagrad", "schedule_free")


def run_config(steps: int = 100, warmup: int = 10, seed: int = 0, **fields: Any) -> RunConfig:
    fields = {"warmup_fraction": None, "warmup_steps": warmup, **fields}
    return RunConfig(optim=OptimConfig(**fields), train=TrainConfig(steps=steps), seed=seed)


def curve(schedule: str, **fields: Any) -> np.ndarray:
    config = run_config(schedule=schedule, **fields)
    steps = jnp.arange(config.train.steps)
    h = jax.tree.map(jnp.asarray, programs.hparams(config))
    return np.asarray(jax.vmap(lambda s: optim.learning_rate(s, h, schedule))(steps))


def random_tree(seed: int, scale: float = 1.0) -> dict[str, Any]:
    """A scanned block, an embedding and a norm, with large and small values."""
    rng = np.random.default_rng(seed)

    def array(*shape: int) -> jax.Array:
        return jnp.asarray(scale * rng.normal(size=shape), jnp.float32)

    return {
        "embedding": array(11, 4),
        "blocks": {"mlp": {"w": array(3, 4, 8)}, "norm": {"scale": array(3, 4)}},
        "final_norm": {"scale": array(4)},
    }


def close(actual: Any, expected: Any, rtol: float = 1e-6) -> None:
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, rtol=rtol, atol=rtol * 1e-2), actual, expected
    )


def at(i: int, tree: Any) -> Any:
    """The i-th entry of a stack of trees."""
    return jax.tree.map(lambda x: x[i], tree)


# ---- schedules


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_is_linear_and_starts_above_zero(schedule: str) -> None:
    lr = curve(schedule, peak_lr=2.0, warmup=10)
    np.testing.assert_allclose(lr[:10], 2.0 * np.arange(1, 11) / 10, rtol=1e-6)
    assert lr.argmax() == 9
    assert (np.diff(lr[9:]) <= 1e-6).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 100])
def test_schedules_without_warm_up_are_finite_and_positive(schedule: str, steps: int) -> None:
    lr = curve(schedule, steps=steps, warmup=0, peak_lr=2.0)
    assert np.isfinite(lr).all()
    assert (lr > 0).all()
    assert (lr <= 2.0).all()


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd"])
def test_last_update_has_the_final_fraction(schedule: str) -> None:
    lr = curve(schedule, peak_lr=2.0, final_lr_fraction=0.25)
    np.testing.assert_allclose(lr[-1], 0.5, rtol=1e-6)
    assert (lr[:-1] > 0.5).sum() == len(lr) - 1 - 2  # the first two steps of warm-up lie below


def test_cosine_is_optax() -> None:
    theirs = optax.warmup_cosine_decay_schedule(0.0, 3e-3, 10, 100, end_value=3e-4)
    expected = [theirs(step + 1) for step in range(100)]  # ours counts the update being made
    np.testing.assert_allclose(curve("cosine", peak_lr=3e-3), expected, rtol=1e-5)


def test_linear_is_optax() -> None:
    warm = optax.linear_schedule(0.0, 3e-3, 10)
    fall = optax.linear_schedule(3e-3, 3e-4, 90)
    theirs = optax.join_schedules([warm, fall], [10])
    expected = [theirs(step + 1) for step in range(100)]
    np.testing.assert_allclose(curve("linear", peak_lr=3e-3), expected, rtol=1e-5)


def test_wsd_is_flat_then_falls_over_its_share() -> None:
    lr = curve("wsd", peak_lr=1.0, decay_fraction=0.2, final_lr_fraction=0.0)
    np.testing.assert_array_equal(lr[9:80], 1.0)
    np.testing.assert_allclose(lr[80:], 1 - np.arange(1, 21) / 20, atol=1e-6)


def test_wsd_with_a_warm_up_into_its_decay_never_jumps() -> None:
    lr = curve("wsd", peak_lr=1.0, warmup=50, decay_fraction=0.8, final_lr_fraction=0.0)
    assert np.abs(np.diff(lr)).max() <= 1 / 50 + 1e-6


def test_rsqrt_halves_when_the_steps_quadruple() -> None:
    lr = curve("rsqrt", peak_lr=1.0, warmup=16)
    np.testing.assert_allclose(lr[[15, 63]], [1.0, 0.5], rtol=1e-6)


def test_constant_stays() -> None:
    np.testing.assert_array_equal(curve("constant", peak_lr=0.5)[9:], 0.5)


# ---- hyper-parameters


def test_hparams_are_strongly_typed_scalars_and_follow_the_switches() -> None:
    h = programs.hparams(run_config(seed=2**32 - 1))
    assert h["seed"].dtype == np.uint32
    assert h["seed"] == 2**32 - 1
    assert all(v.dtype == np.float32 for name, v in h.items() if name != "seed")
    assert all(v.shape == () for v in h.values())
    assert h["decay_steps"] == 20
    assert "clip_norm" in h
    assert "ema_decay" not in h
    h = programs.hparams(run_config(clip_norm=None, ema_decay=0.99))
    assert "clip_norm" not in h
    assert h["ema_decay"] == np.float32(0.99)


def updates(config: RunConfig, count: int = 5, seed: int = 0) -> tuple[Any, Any, list[optim.Info]]:
    optimizer, h = optim.build(config.optim), programs.hparams(config)
    params = random_tree(seed)
    state, infos = optimizer.init(params), []
    for step in range(count):
        grads = random_tree(100 + seed + step, scale=10.0 ** (step - 2))
        params, state, info = optimizer.update(grads, state, params, step, h)
        infos.append(info)
    return params, state, infos


def test_numbers_do_not_recompile_and_structure_does() -> None:
    traces = []

    def update(optimizer: optim.Optimizer, *args: Any) -> Any:
        traces.append(optimizer)
        return optimizer.update(*args)

    jitted = jax.jit(update, static_argnums=0)
    params, grads = random_tree(0), random_tree(1)
    base = run_config()
    numbers = {
        "peak_lr": 1e-2,
        "warmup_steps": 3,
        "decay_fraction": 0.5,
        "final_lr_fraction": 0.3,
        "b1": 0.8,
        "b2": 0.9,
        "eps": 1e-5,
        "weight_decay": 0.3,
        "clip_norm": 0.1,
    }
    runs = [base] + [
        dataclasses.replace(base, optim=dataclasses.replace(base.optim, **{name: value}))
        for name, value in numbers.items()
    ]
    runs += [run_config(steps=50), run_config(seed=5)]
    for config in runs:
        optimizer = optim.build(config.optim)
        args = (grads, optimizer.init(params), params, jnp.int32(4), programs.hparams(config))
        jitted(optimizer, *args)
    assert len(traces) == 1
    structure: dict[str, Any] = {
        "name": "lion",
        "schedule": "wsd",
        "clip_norm": None,
        "independent_weight_decay": True,
    }
    for name, value in structure.items():
        optim_config = dataclasses.replace(base.optim, **{name: value})
        assert optim.build(optim_config) != optim.build(base.optim), name


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_mapping_over_hparams_is_one_update_each(name: str) -> None:
    first = run_config(name=name, peak_lr=1e-3, b1=0.9, warmup=0)
    second = run_config(name=name, peak_lr=5e-2, b1=0.5, warmup=20, weight_decay=0.0)
    optimizer, params, grads = optim.build(first.optim), random_tree(0), random_tree(1)

    def update(h: optim.Hparams) -> Any:
        return optimizer.update(grads, optimizer.init(params), params, 3, h)[0]

    both = [programs.hparams(first), programs.hparams(second)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *both)
    together = jax.vmap(update)(stacked)
    for i, h in enumerate(both):
        close(at(i, together), update(h))


# ---- optimizers


def optax_run(transform: optax.GradientTransformation, count: int = 5, seed: int = 0) -> Any:
    params = random_tree(seed)
    state = transform.init(params)
    for step in range(count):
        grads = random_tree(100 + seed + step, scale=10.0 ** (step - 2))
        change, state = transform.update(grads, state, params)
        params = optax.apply_updates(params, change)
    return params


MASK = {
    "embedding": True,
    "blocks": {"mlp": {"w": True}, "norm": {"scale": False}},
    "final_norm": {"scale": False},
}


def test_adamw_is_optax_adamw() -> None:
    theirs = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(lambda n: 3e-3 * (n + 1) / 10, 0.9, 0.95, 1e-8, weight_decay=0.1, mask=MASK),
    )
    close(updates(run_config())[0], optax_run(theirs), rtol=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_lion_and_sgd_are_optax(seed: int) -> None:
    config = run_config(name="lion", schedule="constant", warmup=0, clip_norm=None)
    theirs = optax.lion(3e-3, 0.9, 0.95, weight_decay=0.1, mask=MASK)
    close(updates(config, seed=seed)[0], optax_run(theirs, seed=seed), rtol=1e-5)
    config = run_config(name="sgd", schedule="constant", warmup=0, clip_norm=None, weight_decay=0.0)
    close(updates(config, seed=seed)[0], optax_run(optax.sgd(3e-3, 0.9), seed=seed), rtol=1e-5)


def test_adafactor_with_a_cap_out_of_reach_is_optax_adafactor() -> None:
    config = run_config(
        name="adafactor", schedule="constant", warmup=0, b2=1.0, eps=1e-15, weight_decay=0.0
    )
    theirs = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adafactor(
            3e-3, multiply_by_parameter_scale=False, clipping_threshold=None, momentum=0.9
        ),
    )
    close(updates(config)[0], optax_run(theirs), rtol=1e-5)


def test_adafactor_factors_large_matrices_only() -> None:
    params = {"w": jnp.ones((128, 256)), "scale": jnp.ones((128,))}
    config = run_config(name="adafactor", clip_norm=None)
    optimizer = optim.build(config.optim)
    state = optimizer.init(params)
    momentum = 128 * 256 + 128
    moments = sum(x.size for x in jax.tree.leaves(state)) - momentum
    assert moments < 128 * 256 / 50


@pytest.mark.parametrize("name", NAMES)
def test_scanned_and_unrolled_leaves_get_the_same_update(name: str) -> None:
    config = run_config(name=name, clip_norm=None)
    optimizer, h = optim.build(config.optim), programs.hparams(config)
    rng = np.random.default_rng(0)

    def array() -> dict[str, jax.Array]:
        return {
            "w": jnp.asarray(rng.normal(size=(3, 130, 128)), jnp.float32),
            "scale": jnp.asarray(rng.normal(size=(3, 130)), jnp.float32),
        }

    params, grads = array(), array()
    scanned, _, _ = optimizer.update(grads, optimizer.init(params), params, 3, h)
    for i in range(3):
        p, g = at(i, params), at(i, grads)
        unrolled, _, _ = optimizer.update(g, optimizer.init(p), p, 3, h)
        close(at(i, scanned), unrolled)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scanned", [False, True])
def test_norm_scales_are_not_decayed(name: str, scanned: bool) -> None:
    lead = (3,) if scanned else ()
    params = {
        "norm": {"scale": jnp.ones((*lead, 4))},
        "dense": {"w": jnp.ones((*lead, 4, 8)), "bias": jnp.ones((*lead, 8))},
        "embedding": jnp.ones((11, 4)),
    }
    config = run_config(name=name, weight_decay=0.5, schedule="constant", warmup=0, peak_lr=0.1)
    optimizer, h = optim.build(config.optim), programs.hparams(config)
    zeros = jax.tree.map(jnp.zeros_like, params)
    new, _, _ = optimizer.update(zeros, optimizer.init(params), params, 0, h)
    expected = {
        "norm": {"scale": 1.0},
        "dense": {"w": 0.95, "bias": 1.0},
        "embedding": 0.95,
    }
    jax.tree.map(lambda x, e: np.testing.assert_allclose(x, e, rtol=1e-6), new, expected)


@pytest.mark.parametrize("name", NAMES)
def test_statistics_stay_as_they_are(name: str) -> None:
    draw = np.random.default_rng(0)
    names = ("scale", "bias", "mean", "variance")
    params = {"norm": {n: jnp.asarray(draw.normal(size=8), jnp.float32) for n in names}}
    grads = jax.tree.map(lambda p: jnp.asarray(draw.normal(size=p.shape), jnp.float32), params)
    config = run_config(name=name, weight_decay=0.5, schedule="constant", warmup=0, peak_lr=0.1)
    optimizer, h = optim.build(config.optim), programs.hparams(config)
    new, state = params, optimizer.init(params)
    for step in range(2):
        new, state, _ = optimizer.update(grads, state, new, step, h)
    for which in names:
        same = np.array_equal(new["norm"][which], params["norm"][which])
        assert same == (which in ("mean", "variance")), which


def test_independent_decay_does_not_know_the_height_of_the_peak() -> None:
    def shrunk(independent: bool, peak_lr: float, step: int) -> float:
        config = run_config(
            peak_lr=peak_lr,
            weight_decay=0.01,
            independent_weight_decay=independent,
            schedule="linear",
            final_lr_fraction=0.0,
        )
        optimizer, params = optim.build(config.optim), {"w": jnp.ones((2, 2))}
        zeros = jax.tree.map(jnp.zeros_like, params)
        state = optimizer.init(params)
        new, _, _ = optimizer.update(zeros, state, params, step, programs.hparams(config))
        return 1.0 - float(new["w"][0, 0])

    for step, factor in ((4, 0.5), (9, 1.0), (54, 0.5)):
        for peak in (0.0, 1e-3, 1.0):
            np.testing.assert_allclose(shrunk(True, peak, step), 0.01 * factor, rtol=1e-4)
            tied = 0.01 * factor * peak
            np.testing.assert_allclose(shrunk(False, peak, step), tied, rtol=1e-2, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-3, 1e3))
def test_clipping_is_optax(scale: float) -> None:
    config = run_config(
        name="sgd", b1=0.0, schedule="constant", warmup=0, peak_lr=1.0, weight_decay=0.0
    )
    optimizer, h = optim.build(config.optim), programs.hparams(config)
    params, grads = random_tree(0), random_tree(1, scale)
    zeros = jax.tree.map(jnp.zeros_like, params)
    new, _, info = optimizer.update(grads, optimizer.init(zeros), zeros, 0, h)
    clip = optax.clip_by_global_norm(1.0)
    expected, _ = clip.update(grads, clip.init(grads))
    close(jax.tree.map(jnp.negative, new), expected)
    norm = float(optax.tree.norm(grads))
    np.testing.assert_allclose(info["grad_norm"], norm, rtol=1e-6)
    np.testing.assert_allclose(info["update_norm"], min(norm, 1.0), rtol=1e-5)


def test_info_has_the_learning_rate_that_was_used() -> None:
    infos = updates(run_config())[2]
    np.testing.assert_allclose([i["lr"] for i in infos], 3e-3 * np.arange(1, 6) / 10, rtol=1e-6)


def test_ema_is_the_weighted_average_of_all_weights() -> None:
    h, ema = {"ema_decay": jnp.float32(0.5)}, {"w": jnp.zeros(())}
    for value in (1.0, 2.0, 4.0):
        ema = optim.ema_update(ema, {"w": jnp.float32(value)}, h)
    np.testing.assert_allclose(ema["w"], 0.125 * 1 + 0.25 * 2 + 0.5 * 4, rtol=1e-6)


def test_schedule_free_is_its_definition() -> None:
    """Defazio et al. 2024, algorithm 1, with a warm-up: in float64 by hand."""
    config = run_config(
        **{"name": "schedule_free", "schedule": "constant", "warmup": 3, "clip_norm": None},
        **{"peak_lr": 0.1, "b1": 0.9, "b2": 0.99, "eps": 1e-8, "weight_decay": 0.1},
    )
    optimizer, h = optim.build(config.optim), programs.hparams(config)
    params = {"w": jnp.array([1.0, -2.0])}
    state, ema = optimizer.init(params), params
    z = x = y = np.array([1.0, -2.0])
    v, weights = np.zeros(2), 0.0
    for step in range(8):
        grad = np.array([2 * y[0], np.sin(3 * y[1])])
        grads = {"w": jnp.asarray(grad, jnp.float32)}
        params, state, _ = optimizer.update(grads, state, params, step, h)
        ema = optimizer.average(ema, params, state, h)
        lr = 0.1 * min(1, (step + 1) / 3)
        v = 0.99 * v + 0.01 * grad**2
        z = z - lr * grad / (np.sqrt(v / (1 - 0.99 ** (step + 1))) + 1e-8) - lr * 0.1 * y
        weights += lr**2
        x = x + lr**2 / weights * (z - x)
        y = 0.1 * z + 0.9 * x
        # z is kept in float32, and x is read off it and y.
        np.testing.assert_allclose(params["w"], y, rtol=1e-5)
        np.testing.assert_allclose(ema["w"], x, rtol=1e-5)


def test_copies_of_parameters_are_those_that_a_run_begins_with() -> None:
    optimizer = optim.build(run_config(name="schedule_free").optim)
    first, other = random_tree(0), random_tree(1)
    found = optim.restarted(optimizer.init(first), other)
    assert jax.tree.structure(found) == jax.tree.structure(optimizer.init(other))
    close(found, optimizer.init(other))
    plain = optim.build(run_config().optim).init(first)
    close(optim.restarted(plain, other), plain)
