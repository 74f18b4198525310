"""A student is taught by its teacher's predictions, and the teacher stays what it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import data
from scaling.config import DistillConfig, fingerprint, programs
from scaling.config.teacher import teacher
from scaling.costs import counts, sizes
from scaling.errors import ConfigError
from scaling.objectives import objective as objective_lib
from scaling.objectives.distillation import divergence
from scaling.optim import subtree
from scaling.records import RunDirectory, tables
from scaling.train import state as state_lib
from scaling.train.loop import train
from scaling.train.opened import newest
from scaling.train.step import gradients


def test_the_distance_is_none_from_oneself_and_else_the_divergence_of_the_softened():
    rng = np.random.default_rng(0)
    a, b = ({"out": rng.normal(size=(5, 4)).astype(np.float32)} for _ in range(2))
    np.testing.assert_allclose(divergence(a, a, 2.0), 0.0, atol=1e-6)
    p, q = (np.exp(x["out"] / 2) for x in (a, b))
    p, q = (x / x.sum(axis=1, keepdims=True) for x in (p, q))
    np.testing.assert_allclose(divergence(a, b, 2.0), 4 * (p * np.log(p / q)).sum(1), rtol=1e-4)
    grad = jax.grad(lambda a: divergence({"out": a}, b, 1.0).sum())(jnp.asarray(a["out"]))
    assert not np.asarray(grad).any()


@pytest.mark.slow
def test_by_no_weight_it_is_the_plain_loss_bit_for_bit_and_the_teacher_has_no_gradient(
    tiny, student
):
    config = student()
    pieces, plain = state_lib.parts(config), state_lib.parts(tiny())
    key, batch = jax.random.key(0), data.train_batches(config).batch(0)
    row = jax.tree.map(lambda x: x[:1], batch)
    params = jax.jit(pieces.model.init)(key, row)["params"]
    params = jax.tree.map(lambda box: box.value, params, is_leaf=lambda x: hasattr(x, "names"))
    own = {name: tree for name, tree in params.items() if name != "teacher"}
    assert "teacher" not in pieces.trained(params)
    hparams = programs.hparams(config)
    assert hparams["distill_weight"] == np.float32(0.5)

    def grads(pieces, params, weight):
        values = hparams | {"distill_weight": jnp.float32(weight)}
        return gradients(pieces, 1, params, batch, values, key)

    half, none = (jax.jit(lambda w: grads(pieces, params, w))(w) for w in (0.5, 0.0))
    alone = jax.jit(lambda w: grads(plain, own, w))(0.0)
    paths = {path for path, _ in subtree.leaves(half[0])}
    assert paths == {path for path, _ in subtree.leaves(own)}
    assert none[1]["loss"].total == alone[1]["loss"].total == half[1]["loss"].total
    rows = [
        one.objective.loss(one.model, p, batch, key, {"distill_weight": np.float32(0)})[0]
        for one, p in ((pieces, params), (plain, own))
    ]
    assert rows[0] == rows[1]
    apart = False
    for (path, a), (_, b), (_, c) in zip(
        *map(subtree.leaves, jax.device_get((none[0], alone[0], half[0]))), strict=True
    ):
        # Another program, with sums in another order.
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7, err_msg=path)
        apart |= not np.allclose(a, c, rtol=1e-2)
    assert apart

    def loss(theirs):
        whole = own | {"teacher": theirs}
        return pieces.objective.loss(pieces.model, whole, batch, key, hparams)[0]

    of_teacher = jax.jit(jax.grad(loss))(params["teacher"])
    assert not any(np.asarray(leaf).any() for _, leaf in subtree.leaves(of_teacher))


def test_the_teachers_forward_pass_is_counted(tiny, student):
    config, plain = student(), tiny()
    wide = sizes.size(tiny({"model.width": 32})).flops_per_unit
    taught, alone = (sizes.size(one).flops_per_unit for one in (config, plain))
    assert taught == pytest.approx(alone + wide / 3)
    assert teacher(config).width == 32
    units = 8 * 16
    counted, before = (counts.train_ledger(one).matmul / units for one in (config, plain))
    again = 3 * 2 * plain.model.width * plain.model.vocab  # the student's logits, once more
    assert counted - before == pytest.approx(wide / 3 + again, rel=1e-6)


def test_runs_that_differ_in_the_weight_share_a_program(student):
    one, other = student(), student({"distill.weight": 0.9})
    assert programs.program_of(one) == programs.program_of(other)
    assert fingerprint(one) != fingerprint(other)
    sharper = student({"distill.temperature": 4.0})
    assert programs.program_of(one) != programs.program_of(sharper)


def test_what_cannot_be_taught_is_named(tiny, student):
    for fields, message in (
        ({"begins.run": None}, r"distill\.weight=0\.5 changes nothing without begins\.run"),
        ({"distill.teacher": None}, r"is not known by its fingerprint alone; give its directory"),
        ({"distill.weight": 1.5}, r"distill\.weight=1\.5 must lie between 0 and 1"),
        ({"begins.new": "head"}, r"begins\.new=head changes nothing without distill\.begin"),
    ):
        with pytest.raises(ConfigError, match=message):
            state_lib.parts(student(fields))
    with pytest.raises(ConfigError, match=r"distill\.begin=True changes nothing without"):
        tiny({"distill.begin": True})
    assert objective_lib.build(tiny().objective, DistillConfig()).weights == {}


@pytest.mark.slow
def test_a_run_is_taught_by_another_and_goes_on_as_if_it_had_not_been_cut(tiny, tmp_path):
    wide = tiny({"model.width": 32, "train.steps": 4})
    assert train(wide, tmp_path, quiet=True).status == "done"
    path = str(RunDirectory.open(wide, tmp_path).path)
    config = tiny({"begins.run": path, "distill.weight": 0.5, "train.steps": 6})
    assert train(config, tmp_path, quiet=True).status == "done"
    for pause in (3, None):
        train(config, tmp_path / "cut", quiet=True, pause=pause)
    ended = [newest(RunDirectory.open(config, at)) for at in (tmp_path, tmp_path / "cut")]
    jax.tree.map(np.testing.assert_array_equal, *(jax.device_get(one.state) for one in ended))
    theirs = newest(RunDirectory.open(wide, tmp_path)).used
    jax.tree.map(np.testing.assert_array_equal, ended[0].state.params["teacher"], theirs)
    assert "teacher" not in ended[0].used
    plain = tiny({"train.steps": 6})
    assert train(plain, tmp_path, quiet=True).status == "done"
    rows = tables.table(tmp_path).set_index("fingerprint")
    taught, alone, told = (rows.loc[fingerprint(one)] for one in (config, plain, wide))
    assert taught["teacher_loss"] == told["loss"]
    assert taught["supervised_loss"] == alone["loss"] != taught["loss"]
    assert taught["trained"] == "distilled 0.5"
    assert np.isnan(alone["teacher_loss"])
