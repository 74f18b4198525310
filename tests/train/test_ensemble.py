"""The mean of predictions: by definition, of one run its own numbers, and of several no worse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reading import lines

from configs import gan, vision
from scaling.config import fingerprint, from_dict, override
from scaling.errors import UserError
from scaling.records import RunDirectory
from scaling.studies import study
from scaling.train import ensemble
from scaling.train.loop import train

KEY = jax.random.key(0)


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def test_classes_and_tokens_have_the_mean_probability_and_numbers_the_mean():
    out = jax.random.normal(KEY, (3, 4, 5))
    mixed = ensemble.averaged({"out": out}, labelled=True)["out"]
    np.testing.assert_allclose(softmax(mixed), softmax(np.asarray(out)).mean(axis=0), rtol=1e-5)
    mean = ensemble.averaged({"out": out}, labelled=False)["out"]
    np.testing.assert_allclose(mean, np.asarray(out).mean(axis=0), rtol=1e-6)
    hidden, head = jax.random.normal(KEY, (3, 2, 4, 6)), jax.random.normal(KEY, (3, 7, 6))
    logits = np.einsum("mbld,mvd->mblv", hidden, head)
    for cap in (None, 2.0):
        given = {"hidden": hidden, "head": head}
        given |= {} if cap is None else {"softcap": jnp.full(3, cap)}
        found = ensemble.averaged(given, labelled=False)
        made = np.einsum("bld,vd->blv", found["hidden"], found["head"])
        capped = logits if cap is None else cap * np.tanh(logits / cap)
        np.testing.assert_allclose(softmax(made), softmax(capped).mean(axis=0), rtol=1e-4)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    fields = {"model.family": "mlp", "model.width": 8, "train.epochs": None, "train.steps": 40}
    base = override(from_dict(vision.get_config("debug")), fields | {"evals.batches": 8})
    for seed, width in ((0, 8), (1, 8), (2, 8), (0, 12)):
        config = study.resolve(override(base, {"seed": seed, "model.width": width}))
        assert train(config, folder, devices=jax.devices()[:1], quiet=True).status == "done"
        if (seed, width) in ((1, 8), (2, 8)):
            further = {"seed": seed + 2, "begins.run": fingerprint(config)}
            again = study.resolve(override(config, further))
            assert train(again, folder, devices=jax.devices()[:1], quiet=True).status == "done"
    return folder


def runs(workdir):
    return [RunDirectory(path) for path in sorted((workdir / "runs").iterdir())]


@pytest.mark.slow
def test_of_one_run_they_are_its_own_numbers_and_together_they_do_better(workdir):
    groups = ensemble.alike(runs(workdir))
    group, _ = sorted(groups, key=len, reverse=True)
    # Those that went on from another are alike, too, where those are.
    assert sorted([run.config().seed for run in one] for one in groups) == [[0, 1, 2], [3, 4]]
    rows = ensemble.judge(group)
    own = next(line for line in lines(group[0]) if line["split"] == "val")
    for name in ("loss", "accuracy", "calibration_error", "loss_se"):
        assert rows[0][name] == pytest.approx(own[name], rel=1e-4, abs=1e-6)
    each = [next(x for x in lines(run) if x["split"] == "val")["loss"] for run in group]
    # By Jensen: the loss of a mean of probabilities is below the mean of the losses.
    assert rows[2]["loss"] < np.mean(each)
    assert [row["members"] for row in rows] == [1, 2, 3]
    assert rows[2]["flops"] == 3 * rows[0]["flops"]
    (first, *_, last) = ensemble.judge(group, "weights")
    assert first["loss"] == pytest.approx(own["loss"], rel=1e-4)
    assert last["loss"] > rows[0]["loss"]  # they share no beginning


@pytest.mark.slow
def test_runs_may_differ_in_what_is_named_besides(workdir):
    groups = ensemble.alike(runs(workdir), {"model.width": 8})
    assert sorted([run.config().seed for run in one] for one in groups) == [[0, 0, 1, 2], [3, 4]]


@pytest.mark.slow
def test_a_run_that_went_on_from_another_is_a_snapshot_behind_it(workdir):
    chain, other = sorted(ensemble.chains(runs(workdir)), key=lambda c: c[0].config().seed)
    assert [[run.config().seed for run in one] for one in (chain, other)] == [[1, 3], [2, 4]]
    one, both = ensemble.judge(chain)
    assert both["flops"] == 2 * one["flops"]
    own = [next(x for x in lines(run) if x["split"] == "val")["loss"] for run in chain]
    assert one["loss"] == pytest.approx(own[0], rel=1e-4)
    assert own[1] < own[0]
    assert both["loss"] < np.mean(own)  # by Jensen


def test_what_has_no_mean_is_refused():
    with pytest.raises(UserError, match="are not averaged"):
        ensemble.check(study.resolve(gan.get_config("debug")))
