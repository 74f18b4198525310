"""A run holds on to what an earlier one knew, by how much that one's predictions depend on it."""

import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.config import base_config, fingerprint, from_dict, override, programs
from scaling.errors import ConfigError
from scaling.objectives.predictions import own_surprise
from scaling.optim.subtree import leaves
from scaling.records import RunDirectory, tables
from scaling.studies import study
from scaling.train import consolidation, trials
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


def ended(config, workdir):
    return newest(RunDirectory.open(config, workdir))


@pytest.fixture(scope="module")
def row_of_three(task, tmp_path_factory):
    """A folder of runs, and those: three tasks in a row, the later two held to the earlier."""
    workdir = tmp_path_factory.mktemp("three")
    first = task({})
    second = task(HELD | {"begins.run": fingerprint(first)})
    third = task(HELD | {"begins.run": fingerprint(second), "data.permutation": 2})
    for config in (first, second, third):
        assert train(config, workdir, quiet=True, devices=jax.devices()[:1]).status == "done"
    return workdir, (first, second, third)


@pytest.mark.slow
def test_what_is_held_adds_up_and_the_table_tells_what_is_forgotten(row_of_three):
    workdir, configs = row_of_three
    first, second, third = (ended(config, workdir) for config in configs)
    before = second.state.params
    jax.tree.map(np.testing.assert_array_equal, before[ANCHOR]["at"], first.used)
    own = consolidation.fisher(configs[2], configs[1], alone(before), third.plan.mesh)
    both = third.state.params[ANCHOR]["fisher"]
    for (path, found), (_, new), (_, old) in zip(
        leaves(both), leaves(own), leaves(before[ANCHOR]["fisher"]), strict=True
    ):
        np.testing.assert_allclose(found, new + old, rtol=1e-5, atol=1e-9, err_msg=path)
        assert np.asarray(old).any()
    table = tables.table(workdir).set_index("fingerprint")
    rows = [table.loc[fingerprint(config)] for config in configs]
    assert [row["trained"] for row in rows] == ["scratch", "ewc 1e+03", "ewc 1e+03"]
    assert [row["tasks"] for row in rows[1:]] == [2, 3]
    lost = [rows[2][f"loss/task{i}"] - rows[i]["loss"] for i in range(2)]
    assert rows[2]["loss_forgotten"] == pytest.approx(np.mean(lost), rel=1e-6)
    known = rows[2][["accuracy/task0", "accuracy/task1", "accuracy"]].astype(float).mean()
    assert rows[2]["accuracy_of_tasks"] == pytest.approx(known, rel=1e-6)


@pytest.mark.exhaustive
def test_it_goes_on_as_if_it_had_not_been_cut_packed_as_alone_and_on_a_mesh(
    row_of_three, task, tmp_path
):
    workdir, (first, tight, _) = row_of_three
    mixed = {"mixture.shares.task0": 0.25, "ewc.weight": 1.0, "seed": 1}
    loose = task(HELD | {"begins.run": fingerprint(first)} | mixed)
    folders = [tmp_path / name for name in ("alone", "packed", "cut", "mesh")]
    alone_in, packed_in, cut_in, meshed_in = folders
    name, devices = RunDirectory.open(first, workdir).path.name, jax.devices()[:1]
    for folder in folders:
        shutil.copytree(workdir / "runs" / name, folder / "runs" / name)
    train(loose, alone_in, quiet=True, devices=devices)
    train_packed([tight, loose], packed_in, quiet=True, devices=devices)
    for pause in (3, None):
        train(tight, cut_in, quiet=True, devices=devices, pause=pause)
    meshed = task(HELD | {"begins.run": fingerprint(first), "mesh.fsdp": 2})
    train(meshed, meshed_in, quiet=True, devices=jax.devices()[:4])
    there = [ended(tight, workdir).state.params, ended(loose, alone_in).state.params]
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
    for config, params in zip((tight, loose), there, strict=True):
        jax.tree.map(close, ended(config, packed_in).state.params, params)
    # Another mesh adds up in another order; the drawn labels are the same.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, ended(meshed, meshed_in).state.params, there[0])
    jax.tree.map(np.testing.assert_array_equal, ended(tight, cut_in).state.params, there[0])
    start = ended(first, workdir).used
    far = [
        sum(float(((a - b) ** 2).sum()) for (_, a), (_, b) in zip(*pair, strict=True))
        for pair in ((leaves(alone(p)), leaves(start)) for p in there)
    ]
    assert far[0] < far[1]
