"""The gradient's noise from pieces of batches, against the gradients of single rows."""

import functools

import jax
import numpy as np
import pytest

from scaling import data
from scaling.config import RunConfig, choices, override, programs
from scaling.devices import meshes, sharding
from scaling.errors import ConfigError
from scaling.records.noise import noise_scale
from scaling.studies import study
from scaling.train import state as state_lib
from scaling.train.placement import place
from scaling.train.step import compile_steps, gradients

ROWS, BATCHES = 16, 60


@pytest.fixture(scope="module")
def run():
    """A small network on vectors, whose rows are independent."""
    base = RunConfig(
        model=choices.new("model", "mlp"),
        data=choices.new("data", "vectors"),
        objective=choices.new("objective", "regression"),
    )
    fields = {"features": 8, "targets": 2, "examples": 2048, "validation_examples": 32}
    return study.resolve(
        override(
            base,
            {f"data.{name}": value for name, value in fields.items()}
            | {
                "model.width": 8,
                "train.steps": BATCHES,
                "train.batch_size": ROWS,
                "train.noise_scale": True,
                "train.microbatches": 4,
                "train.log_every": 1,
                "evals.batch_size": 8,
                "evals.batches": 1,
            },
        )
    )


@pytest.fixture(scope="module")
def start(run):
    pieces = state_lib.parts(run)
    plan = state_lib.layout(pieces, run, meshes.make_mesh(run.mesh, jax.devices()[:1]))
    return jax.device_get(state_lib.init(pieces, run, plan).params)


def measured(run: RunConfig, params, count: int = BATCHES) -> list[dict[str, float]]:
    """Of several batches at the same parameters."""
    pieces, hparams = state_lib.parts(run), programs.hparams(run)
    compute = jax.jit(functools.partial(gradients, pieces, run.train.microbatches))
    batches = data.train_batches(run)
    lines = []
    for step in range(count):
        _, sums = compute(params, batches.batch(step), hparams, jax.random.key(0))
        lines.append({name: float(s.mean) for name, s in sums.items()})
    return lines


def test_it_is_what_the_gradients_of_all_rows_say(run, start):
    """The trace of their covariance and the square of their mean, within four standard errors of
    240 batches; the noise scale within its interval.
    """
    pieces, hparams = state_lib.parts(run), programs.hparams(run)
    every = data.train_batches(run).examples.take(np.arange(2048))

    def of_row(row):
        batch = jax.tree.map(lambda x: x[None], row)
        return jax.grad(
            lambda p: pieces.objective.loss(pieces.model, p, batch, jax.random.key(0), hparams)[0]
        )(start)

    rows = jax.jit(jax.vmap(of_row))(every)
    flat = np.concatenate([np.asarray(x).reshape(2048, -1) for x in jax.tree.leaves(rows)], axis=1)
    noise, square = flat.var(axis=0, ddof=1).sum(), np.square(flat.mean(axis=0)).sum()
    lines = measured(run, start, 4 * BATCHES)
    for name, wanted in (("gradient_noise", noise), ("gradient_square", square)):
        found = np.array([line[name] for line in lines])
        error = found.std(ddof=1) / len(found) ** 0.5
        assert abs(found.mean() - wanted) < 4 * error, name
        assert error < 0.1 * max(wanted, noise / ROWS), name  # the test could fail
    found = noise_scale(lines)
    assert found.low < noise / square < found.high
    assert found.steps == 4 * BATCHES


def test_pieces_of_other_sizes_say_the_same(run, start):
    """Two, four and eight pieces estimate one noise, on the same batches."""
    means = {}
    for pieces in (2, 4, 8):
        lines = measured(override(run, {"train.microbatches": pieces}), start)
        values = np.array([line["gradient_noise"] for line in lines])
        means[pieces] = values.mean(), values.std(ddof=1) / len(values) ** 0.5
    for pieces in (2, 8):
        gap = abs(means[pieces][0] - means[4][0])
        assert gap < 4 * np.hypot(means[pieces][1], means[4][1]), pieces


def test_a_mask_that_cuts_pieces_unequally_adds_no_bias(run, start):
    """Pieces of one to four rows; every row weighs one or nothing. Against all rows by the same
    estimator, of pieces of four.
    """
    whole = np.array([line["gradient_noise"] for line in measured(run, start)])
    pieces, hparams = state_lib.parts(run), programs.hparams(run)
    compute = jax.jit(functools.partial(gradients, pieces, 4))
    batches, found = data.train_batches(run), []
    for step in range(BATCHES):
        batch = batches.batch(step)
        # Rows go to pieces in turn: piece m loses the last m of its four rows.
        row = np.arange(ROWS)
        batch["weight"] = (row // 4 < 4 - row % 4).astype(np.float32)
        _, sums = compute(start, batch, hparams, jax.random.key(0))
        found.append(float(sums["gradient_noise"].mean))
    error = np.hypot(whole.std(), np.std(found)) / BATCHES**0.5
    assert abs(whole.mean() - np.mean(found)) < 4 * error


@pytest.mark.slow
def test_devices_are_pieces_too(run):
    """Four devices with a microbatch each, and one with four, to other orders of summation; and the
    step's other metrics do not know of it.
    """
    lines = {}
    for name, devices, fields in (
        ("devices", 4, {"mesh.data": 4, "train.microbatches": 1}),
        ("pieces", 1, {}),
        ("off", 1, {"train.noise_scale": False}),
    ):
        config = override(run, fields)
        pieces = state_lib.parts(config)
        mesh = meshes.make_mesh(config.mesh, jax.devices()[:devices])
        plan = state_lib.layout(pieces, config, mesh)
        batch = data.train_batches(config).batch(0)
        if name == "devices":  # each has the rows that a microbatch of one device has
            order = np.arange(ROWS).reshape(4, 4).T.reshape(-1)
            batch = {field: x[order] for field, x in batch.items()}
        with sharding.context(plan.mesh):
            state = state_lib.init(pieces, config, plan)
            rows = place(
                {field: x[None] for field, x in batch.items()},
                sharding.stacked_batch_sharding(plan.mesh),
            )
            whole = sharding.replicated(plan.mesh)
            hparams = place(programs.hparams(config), whole)
            step = compile_steps(pieces, config, plan)
            _, metrics = step(state, rows, place(np.int32(1), whole), hparams)
        lines[name] = {key: float(value[0]) for key, value in metrics.items()}
    assert lines["devices"].keys() == lines["pieces"].keys()
    for key, value in lines["pieces"].items():
        np.testing.assert_allclose(lines["devices"][key], value, rtol=1e-4, err_msg=key)
    assert lines["off"].keys() == lines["pieces"].keys() - {"gradient_noise", "gradient_square"}
    for key, value in lines["off"].items():
        np.testing.assert_allclose(lines["pieces"][key], value, rtol=1e-6, err_msg=key)


def test_a_whole_batch_is_refused(run):
    config = override(run, {"train.microbatches": 1})
    mesh = meshes.make_mesh(config.mesh, jax.devices()[:1])
    with pytest.raises(ConfigError, match=r"train\.microbatches=2"):
        meshes.check_batch(config, mesh)


def test_the_interval_covers_as_often_as_it_says():
    """Of 400 runs of forty steps with known means: 90 percent, within three standard errors."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(400):
        noise = 5.0 + rng.normal(size=40)
        square = 0.5 + 0.8 * rng.normal(size=40) + 0.1 * (noise - 5)
        lines = [
            {"gradient_noise": n, "gradient_square": s, "loss": 1.0}
            for n, s in zip(noise, square, strict=True)
        ]
        found = noise_scale(lines)
        hits += found.low <= 10.0 <= found.high
    assert abs(hits / 400 - 0.9) < 3 * (0.09 / 400) ** 0.5


def test_what_says_nothing_is_refused():
    with pytest.raises(ValueError, match="2 lines"):
        noise_scale([{"gradient_noise": 1.0, "gradient_square": 1.0, "loss": 1.0}] * 2)
    lines = [{"gradient_noise": 1.0, "gradient_square": s, "loss": 1.0} for s in (-1.0, 0.5, 0.1)]
    found = noise_scale(lines)
    assert np.isnan(found.units)
    assert found.high == np.inf
