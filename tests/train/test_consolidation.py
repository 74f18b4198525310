"""A run holds on to what an earlier one knew, by how much that one's predictions depend on it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.config import base_config, fingerprint, from_dict, override, programs
from scaling.errors import ConfigError
from scaling.objectives.predictions import own_surprise
from scaling.records import RunDirectory, tables
from scaling.studies import study
from scaling.train import trials
from scaling.train.loop import train
from scaling.train.opened import newest
from scaling.train.packed import train_packed
from scaling.transforms.beside import ANCHOR, alone, pulled

OTHER = "0123456789ab"
HELD = {"data.permutation": 1, "ewc.weight": 1e3, "ewc.batches": 4}


@pytest.fixture(scope="module")
def task():
    """`task(fields)`: a resolved run of six steps on the digits, evaluated on three tasks."""
    base = base_config(family="mlp", data="images", objective="classification")
    base.model.width, base.model.depth = 8, 1
    base.train.batch_size, base.train.steps, base.train.log_every = 16, 6, 3
    base.evals.batches = 2
    sets = {f"evals.sets.task{i}": {"permutation": i} for i in range(3)}

    def of(fields):
        return study.resolve(override(from_dict(base), sets | fields))

    return of


def test_the_square_of_a_batchs_gradient_is_the_fisher_information_in_the_mean():
    """Of a linear model that is x^2 p (1 - p) an example, whatever the true labels are."""
    rng = np.random.default_rng(0)
    x_BxF, w_FxC = (rng.normal(size=size).astype(np.float32) for size in ((5, 3), (3, 4)))
    weight_B = np.array([1, 1, 1, 1, 0], np.float32)
    scores = x_BxF @ w_FxC
    p_BxC = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    exact = ((x_BxF**2 * weight_B[:, None]).T @ (p_BxC * (1 - p_BxC))).ravel()

    def square(key):
        loss = lambda w: own_surprise({"out": x_BxF @ w}, jnp.asarray(weight_B), key)  # noqa: E731
        return jax.grad(loss)(jnp.asarray(w_FxC)).ravel() ** 2

    drawn = np.asarray(jax.jit(jax.vmap(square))(jax.random.split(jax.random.key(0), 4000)))
    error = drawn.std(axis=0) / len(drawn) ** 0.5
    assert (abs(drawn.mean(axis=0) - exact) < 4 * error).all()


def test_the_pull_is_the_gradient_of_the_penalty():
    rng = np.random.default_rng(1)
    own, at = ({"a": {"w": rng.normal(size=3)}, "b": rng.normal(size=2)} for _ in range(2))
    fisher = jax.tree.map(np.square, at)
    stored = own | {ANCHOR: {"at": at, "fisher": fisher}}

    def penalty(own):
        parts = jax.tree.map(lambda f, w, a: (f * (w - a) ** 2).sum(), fisher, own, at)
        return 0.5 * 7.0 * sum(jax.tree.leaves(parts))

    none = jax.tree.map(np.zeros_like, own)
    found = pulled(none, stored, jnp.float32(7.0))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, jax.grad(penalty)(own)
    )


def test_what_cannot_hold_on_is_named_and_weights_share_a_program(task):
    one, other = (task(HELD | {"begins.run": OTHER, "ewc.weight": w}) for w in (1.0, 2.0))
    assert trials.program(one) == trials.program(other)
    assert trials.program(one) != trials.program(task({"begins.run": OTHER, "data.permutation": 1}))
    assert programs.hparams(other)["ewc_weight"] == np.float32(2.0)
    for fields, message in (
        ({}, r"ewc\.weight=1000\.0 changes nothing without begins\.run"),
        ({"begins.run": OTHER, "begins.new": "head"}, r"draws a part of it anew"),
        ({"begins.run": OTHER, "transform.name": "lora"}, r"transform\.name=lora stores others"),
    ):
        with pytest.raises(ConfigError, match=message):
            task(HELD | fields)
    with pytest.raises(ConfigError, match=r"ewc\.batches=4 changes nothing without ewc\.weight"):
        task({"ewc.batches": 4})


@pytest.mark.slow
def test_a_run_holds_on_goes_on_as_if_it_had_not_been_cut_and_is_packed_as_alone(task, tmp_path):
    first = task({})
    held = [
        task(HELD | {"begins.run": fingerprint(first), "ewc.weight": w, "seed": i})
        for i, w in enumerate((1e3, 1.0))
    ]
    mixed = {"mixture.shares.task0": 0.25, "mixture.shares.task1": 0.25}
    last = [
        task(HELD | {"begins.run": fingerprint(held[0]), "data.permutation": 2} | fields)
        for fields in ({}, {"ewc.decay": 0.0}, mixed)
    ]
    for workdir in (tmp_path, tmp_path / "packed", tmp_path / "cut"):
        assert train(first, workdir, quiet=True).status == "done"
    device = jax.devices()[:1]
    for config in (*held, *last):
        train(config, tmp_path, quiet=True, devices=device)
    for group in (held, last):
        train_packed(group, tmp_path / "packed", quiet=True, devices=device)

    found = [[newest(RunDirectory.open(c, w)).state.params for c in (*held, *last)]
             for w in (tmp_path, tmp_path / "packed")]  # fmt: skip
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), *found)

    start = newest(RunDirectory.open(first, tmp_path)).used
    tight, loose = found[0][:2]
    jax.tree.map(np.testing.assert_array_equal, tight[ANCHOR]["at"], start)
    far = [
        sum(float(((a - b) ** 2).sum()) for a, b in zip(*map(jax.tree.leaves, (alone(p), start)),
                                                        strict=True))
        for p in (tight, loose)
    ]  # fmt: skip
    assert far[0] < far[1]
    own, forgot = (found[0][i][ANCHOR]["fisher"] for i in (2, 3))
    jax.tree.map(
        lambda both, new, old: np.testing.assert_allclose(both, new + old, rtol=1e-5, atol=1e-9),
        *(own, forgot, tight[ANCHOR]["fisher"]),
    )

    for pause in (3, None):
        train(held[0], tmp_path / "cut", quiet=True, devices=device, pause=pause)
    again = newest(RunDirectory.open(held[0], tmp_path / "cut")).state.params
    jax.tree.map(np.testing.assert_array_equal, again, tight)

    rows = tables.table(tmp_path).set_index("fingerprint")
    row, before = rows.loc[fingerprint(last[0])], rows.loc[fingerprint(held[0])]
    assert row["trained"] == "ewc 1e+03"
    assert rows.loc[fingerprint(last[2])]["trained"] == "ewc 1e+03, mixed 0.5"
    assert (row["tasks"], before["tasks"]) == (3, 2)
    lost = [row["loss/task0"] - rows.loc[fingerprint(first)]["loss"]]
    lost.append(row["loss/task1"] - before["loss"])
    assert row["loss_forgotten"] == pytest.approx(np.mean(lost), rel=1e-6)
    known = row[["accuracy/task0", "accuracy/task1", "accuracy"]].astype(float).mean()
    assert row["accuracy_of_tasks"] == pytest.approx(known, rel=1e-6)
