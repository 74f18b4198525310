"""What training drops and changes at random: the same in every form of a run, and nothing of it in
evaluation or in a run that does not ask.
"""

import functools
import pathlib
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import data
from scaling.config import AugmentConfig, RunConfig, choices, override, programs
from scaling.devices import meshes, sharding
from scaling.errors import ConfigError
from scaling.models.dropout import Keys, dropped, skipped
from scaling.records import RunDirectory
from scaling.studies import study
from scaling.train import state as state_lib
from scaling.train.augment import augmented, rectangle, turned
from scaling.train.loop import train
from scaling.train.packed import train_packed
from scaling.train.step import gradients
from tests.train.reading import final_state

ON: dict[str, Any] = {"model.dropout": 0.3, "model.drop_path": 0.5}
IMAGES: dict[str, Any] = {
    **{"augment.noise": 0.1, "augment.rotation": 20.0, "augment.scale": 0.2},
    **{"augment.mixup": 0.5, "augment.cutmix": 0.5},
}
SIZES = {"vit": {"heads": 2}, "resnet": {"stages": "1-1"}, "transformer": {"heads": 2}}


def run_of(family: str, **fields: Any) -> RunConfig:
    """A tiny run on the digits that drops and changes all that it can."""
    raw = RunConfig(
        model=choices.new("model", family),
        data=choices.new("data", "images"),
        objective=choices.new("objective", "classification"),
    )
    own = {f"model.{name}": value for name, value in SIZES.get(family, {}).items()}
    own |= {"model.width": 8, "model.depth": 2, "train.batch_size": 8, "train.steps": 3}
    own |= {"optim.warmup_fraction": 0.0, "evals.batches": 1, "evals.batch_size": 8}
    on = {n: v for n, v in ON.items() if n.partition(".")[2] in raw.model.__dataclass_fields__}
    return study.resolve(override(raw, own | on | IMAGES | fields))


def pieces_of(config: RunConfig) -> Any:
    return state_lib.parts(config)


def state_of(config: RunConfig) -> Any:
    plan = state_lib.layout(
        pieces_of(config), config, meshes.make_mesh(config.mesh, jax.devices()[:1])
    )
    return state_lib.init(pieces_of(config), config, plan)


def gradient(config: RunConfig, params: Any, batch: Any, key: int = 0) -> Any:
    """Of a batch as the step prepares it."""
    pieces, hparams = pieces_of(config), programs.hparams(config)

    def compute(params: Any, batch: Any, rng: Any) -> Any:
        trained_on = pieces.prepared(batch, rng)
        return gradients(pieces, config.train.microbatches, params, trained_on, hparams, rng)[0]

    return jax.device_get(jax.jit(compute)(params, batch, jax.random.key(key)))


def distance(one: Any, other: Any) -> float:
    a, b = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(t)]) for t in (one, other))
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


SLOW = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize(
    "family", ["mlp", *(pytest.param(f, marks=SLOW) for f in ("vit", "mixer", "resnet"))]
)
def test_scanned_unrolled_again_and_in_pieces_the_same_is_dropped(family: str):
    config = run_of(family, **{"augment.rotation": 0.0, "augment.scale": 0.0})
    params, batch = state_of(config).params, data.train_batches(config).batch(0)
    found = gradient(config, params, batch)
    for fields in ({"model.scan_layers": False, "model.remat": "full"}, {"train.microbatches": 4}):
        other = gradient(override(config, fields), params, batch)
        assert distance(found, other) < 1e-5  # the same sums in another order
    assert distance(found, gradient(config, params, batch, key=1)) > 0.1


@SLOW
@pytest.mark.parametrize("axes", [{"data": 4, "fsdp": 2}, {"data": 4, "stage": 2}], ids=str)
def test_a_mesh_drops_the_same(axes: dict[str, int]):
    config = run_of("vit", **{"augment.mixup": 0.0})
    params, batch = state_of(config).params, data.train_batches(config).batch(0)
    params = jax.device_get(params)
    alone = gradient(config, params, batch)
    cut = override(config, {f"mesh.{axis}": size for axis, size in axes.items()})
    mesh = meshes.make_mesh(cut.mesh, jax.devices())
    with sharding.context(mesh):
        rows = {n: jax.device_put(x, sharding.batch_sharding(mesh)) for n, x in batch.items()}
        assert distance(alone, gradient(cut, params, rows)) < 1e-5


@SLOW
def test_stopped_and_continued_and_packed_is_the_same_run(tmp_path: pathlib.Path):
    """Stopped and continued: bit for bit. Packed: as another program rounds."""
    config, stop = run_of("mlp", **{"augment.cutmix": 0.0}), threading.Event()
    stop.set()
    states = []
    for place, how in (("whole", {}), ("parts", {"stop": stop}), ("parts", {})):
        train(config, tmp_path / place, devices=jax.devices()[:1], quiet=True, **how)
        states.append(final_state(RunDirectory.open(config, tmp_path / place)))
    for one, other in zip(states[0], states[2], strict=True):
        np.testing.assert_array_equal(one, other)
    two = [config, study.resolve(override(config, {"seed": 1}))]
    train_packed(two, tmp_path / "packed", devices=jax.devices()[:1], quiet=True)
    packed = final_state(RunDirectory.open(config, tmp_path / "packed"))
    assert distance(states[0], packed) < 1e-5


@pytest.mark.slow
def test_nothing_is_dropped_in_evaluation():
    """The rows of a model that drops are those of the same model that does not."""
    config = run_of("vit")
    off = override(config, dict.fromkeys((*ON, *IMAGES), 0.0))
    params, batch = state_of(config).params, data.eval_batches(config, "val").batch(0)
    found = [
        jax.jit(functools.partial(pieces_of(c).objective.rows, pieces_of(c).model))(params, batch)
        for c in (config, off)
    ]
    jax.tree.map(np.testing.assert_array_equal, *found)
    assert pieces_of(off).prepare is None


# ---- what is dropped, and how much


def keys_of_rows(rows: int) -> Keys:
    data_Bx2 = jax.random.key_data(jax.random.split(jax.random.key(0), rows))
    return Keys(data_Bx2)


def test_a_share_is_dropped_and_the_mean_stays():
    x = jnp.ones((4, 3, 2000))
    drop = jax.jit(dropped, static_argnums=(2, 3, 4))
    found = np.asarray(drop(x, keys_of_rows(4), 0.25, 0, 0))
    assert set(np.unique(found)) == {0.0, np.float32(1 / 0.75)}
    assert abs((found == 0).mean() - 0.25) < 0.012  # four standard errors
    assert not (found[0] == found[1]).all()
    moved = np.asarray(drop(jnp.swapaxes(x, 0, 1), keys_of_rows(4), 0.25, 0, 1))
    np.testing.assert_array_equal(moved.swapaxes(0, 1), found)


def test_later_layers_are_passed_by_more_often():
    y, keys = jnp.ones((4000, 1, 1)), keys_of_rows(4000)

    @jax.jit
    def share(number: Any) -> Any:
        return (skipped(y, keys.of_layer(number), 0.4, depth=4, site=0) == 0).mean()

    shares = [float(share(number)) for number in range(4)]
    np.testing.assert_allclose(shares, [0.1, 0.2, 0.3, 0.4], atol=0.032)  # four standard errors


def batch_of_images(rows: int = 64) -> dict[str, Any]:
    image = np.random.default_rng(0).normal(size=(rows, 6, 8, 1)).astype(np.float32)
    return {"image": image, "label": np.arange(rows, dtype=np.int32), "weight": np.ones(rows)}


def test_mixed_rows_hold_as_much_of_each_as_their_shares_say():
    batch, keys_B = batch_of_images(), jax.random.split(jax.random.key(1), 64)
    mix = jax.jit(augmented, static_argnums=0)
    before = np.roll(batch["image"], 1, axis=0)
    mixed = mix(AugmentConfig(mixup=0.5), batch, keys_B)
    share = np.asarray(mixed["share"]).reshape(-1, 1, 1, 1)
    wanted = share * batch["image"] + (1 - share) * before
    np.testing.assert_allclose(mixed["image"], wanted, rtol=1e-5, atol=1e-5)
    cut = mix(AugmentConfig(cutmix=0.5), batch, keys_B)
    own = (np.asarray(cut["image"]) == batch["image"]).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(cut["share"], own, atol=1e-6)
    assert ((np.asarray(cut["image"]) == batch["image"]) | (cut["image"] == before)).all()
    np.testing.assert_array_equal(cut["partner_label"], np.roll(batch["label"], 1))


def test_a_turn_of_nothing_is_nothing_and_a_quarter_turn_is_one():
    image, key = jnp.asarray(batch_of_images()["image"][0, :, :6]), jax.random.key(0)
    turn_by = jax.jit(turned, static_argnums=1)
    np.testing.assert_allclose(turn_by(0.0, 0.0, image, key), image, atol=1e-6)
    turn = float(jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)[0])
    quarter = np.asarray(turn_by(90.0 / turn, 0.0, image, key))
    np.testing.assert_allclose(quarter, np.rot90(image, -1), atol=1e-4)


def test_a_rectangle_of_no_share_is_empty_and_keeps_its_proportions():
    draw = jax.jit(rectangle, static_argnums=0)
    inside = np.asarray(draw((40, 80), 0.9, jax.random.key(5)))
    assert 0 < inside.mean() <= 0.11
    assert not np.asarray(draw((40, 80), 1.0, jax.random.key(5))).any()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"augment.rotation": 5.0}, r"augment\.rotation=5\.0 needs image, not given by data\.kind"),
        ({"model.dropout": 1.0}, r"model\.dropout=1\.0 must be at least 0 and below 1"),
    ],
)
def test_what_cannot_be_is_refused(tiny: Any, fields: dict[str, Any], says: str):
    with pytest.raises(ConfigError, match=says):
        tiny(fields)


def test_penalties_are_gradients_of_sums_over_matrices():
    config = run_of("mlp", **{"optim.l1": 0.01, "optim.l2": 0.1, "optim.name": "sgd"})
    params = state_of(config).params
    optimizer, hparams = pieces_of(config).optimizer, programs.hparams(config)
    zeros = jax.tree.map(jnp.zeros_like, params)
    found = optimizer._penalised(zeros, params, hparams)["head"]
    w = params["head"]["matrix"]["w"]
    slope = jax.grad(lambda w: 0.01 * jnp.abs(w).sum() + 0.05 * (w**2).sum())(w)
    np.testing.assert_allclose(found["matrix"]["w"], slope, rtol=1e-5)
    assert not np.any(found["bias"])
