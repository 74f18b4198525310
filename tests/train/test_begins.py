"""A run that begins with another one's parameters begins where that one ended."""

import threading

import jax
import numpy as np
import pytest

from scaling.config import fingerprint, override, run_name
from scaling.config.sweep import Study
from scaling.errors import ConfigError, UserError
from scaling.executors import local
from scaling.executors.plan import plan
from scaling.records import RunDirectory, tables
from scaling.studies import study
from scaling.train.loop import train

pytestmark = pytest.mark.slow

STILL = {"optim.peak_lr": 0.0, "optim.warmup_fraction": 0.0, "train.steps": 1}  # nothing moves
LORA = {"transform.name": "lora", "transform.rank": 2}


@pytest.fixture(scope="module")
def parents(tiny, tmp_path_factory):
    """A workdir with two runs that are done, the second with an average of its weights."""
    workdir = tmp_path_factory.mktemp("parents")
    configs = [tiny({"train.steps": 4}), tiny({"train.steps": 4, "optim.ema_decay": 0.5})]
    for config in configs:
        assert train(config, workdir, quiet=True).status == "done"
    return workdir, configs


def loss_of(config, workdir):
    lines = RunDirectory.open(config, workdir).metrics()
    return [line["loss"] for line in lines if line["split"] == "val"][-1]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    "fields", [{}, LORA, LORA | {"optim.name": "muon"}, {"optim.ema_decay": 0.9}]
)
def test_it_begins_with_the_parents_loss(tiny, parents, which, fields):
    """Bit for bit, with the averaged weights where those were evaluated."""
    workdir, configs = parents
    child = tiny(STILL | fields | {"begins.run": fingerprint(configs[which])})
    assert train(child, workdir, quiet=True).status == "done"
    # The average of equal weights is one to the last digit but one.
    close = 1e-6 if "optim.ema_decay" in fields else 0.0
    np.testing.assert_allclose(
        loss_of(child, workdir), loss_of(configs[which], workdir), rtol=close, atol=0.0
    )
    assert loss_of(child, workdir) != loss_of(configs[1 - which], workdir)


@pytest.mark.slow
def test_a_child_of_a_low_rank_run_begins_with_what_that_used(tiny, parents):
    workdir, configs = parents
    middle = tiny(LORA | {"train.steps": 3, "begins.run": fingerprint(configs[0])})
    last = tiny(STILL | {"begins.run": fingerprint(middle)})
    for config in (middle, last):
        assert train(config, workdir, quiet=True).status == "done"
    np.testing.assert_allclose(loss_of(last, workdir), loss_of(middle, workdir), rtol=1e-6)
    assert loss_of(middle, workdir) != loss_of(configs[0], workdir)
    table = tables.table(workdir).set_index("name")
    assert table["amount_before"][run_name(last)] == 7 * 8 * 16
    assert table["amount_before"][run_name(configs[0])] == 0
    assert table["trained"][[run_name(c) for c in (configs[0], middle, last)]].tolist() == [
        *("scratch", "lora 2", "whole"),
    ]


def test_a_parametrized_run_begins_with_what_another_used(tiny, parents):
    """Factors on outputs and logits are divided out of what is stored, of either parent's."""
    workdir, configs = parents
    mup = {"optim.parametrization": "mup", "optim.base_width": 8}
    middle = tiny(mup | STILL | {"begins.run": fingerprint(configs[0])})
    further = tiny(mup | {"train.steps": 3, "begins.run": fingerprint(configs[0])})
    last = tiny(mup | STILL | {"begins.run": fingerprint(further)})
    assert middle.model.width > 8
    for config in (middle, further, last):
        assert train(config, workdir, quiet=True).status == "done"
    for child, parent in ((middle, configs[0]), (last, further)):
        np.testing.assert_allclose(loss_of(child, workdir), loss_of(parent, workdir), rtol=1e-6)
    assert loss_of(further, workdir) != loss_of(configs[0], workdir)


@pytest.mark.exhaustive
def test_killed_and_gone_on_with_it_is_as_if_it_had_not_been(tiny, parents, tmp_path):
    workdir, configs = parents
    child = tiny(
        LORA
        | {
            "begins.run": fingerprint(configs[0]),
            "begins.folder": str(RunDirectory.open(configs[0], workdir).path),
            "train.steps": 6,
            "train.checkpoint_every": 2,
        }
    )
    stop = threading.Event()
    stop.set()  # at the first edge
    assert train(child, tmp_path / "cut", quiet=True, stop=stop).status == "stopped"
    for folder in ("cut", "whole"):
        assert train(child, tmp_path / folder, quiet=True).status == "done"
    cut, whole = (
        [
            {k: v for k, v in line.items() if not k.startswith("time/")}
            for line in RunDirectory.open(child, tmp_path / folder).metrics()
        ]
        for folder in ("cut", "whole")
    )
    assert cut == whole


def test_identity_goes_by_the_parent_and_not_by_where_it_lies(tiny, parents):
    workdir, configs = parents
    path = RunDirectory.open(configs[0], workdir).path
    by_print, other = (tiny({"begins.run": fingerprint(config)}) for config in configs)
    by_path = tiny({"begins.run": str(path)})
    assert by_path.begins.run == fingerprint(configs[0])
    assert by_path.begins.folder == str(path)
    assert fingerprint(by_path) == fingerprint(by_print)
    new = tiny({"begins.run": fingerprint(configs[0]), "begins.new": "embedding"})
    assert len({fingerprint(config) for config in (tiny(), by_print, other, new)}) == 4
    assert study.resolve(by_path) == by_path


def test_what_the_parent_has_not_must_be_listed_as_new(tiny, parents):
    workdir, configs = parents
    fields = STILL | {"begins.run": fingerprint(configs[0]), "model.mlp_width": 24}
    child = tiny(fields | {"begins.new": "mlp"})
    assert train(child, workdir, quiet=True).status == "done"
    with pytest.raises(UserError, match=r"blocks/mlp/down/w is .* there and .* here; .*begins.new"):
        train(tiny(fields), workdir, quiet=True)
    untied = tiny(STILL | {"begins.run": fingerprint(configs[0]), "model.tie_embeddings": False})
    with pytest.raises(UserError, match=r"head is not there; .*begins\.new"):
        train(untied, workdir, quiet=True)
    with pytest.raises(ConfigError, match=r"begins\.new: 'mpl' means none"):
        train(tiny(fields | {"begins.new": "mpl"}), workdir, quiet=True)
    with pytest.raises(UserError, match=r"leaves nothing to take"):
        train(tiny(fields | {"begins.new": "*"}), workdir, quiet=True)


def test_a_parent_that_is_missing_or_has_not_ended_is_named(tiny, parents, tmp_path):
    with pytest.raises(UserError, match=r"begins.run=0123456789ab: no run .* train it there first"):
        train(tiny(STILL | {"begins.run": "0123456789ab"}), tmp_path, quiet=True)
    parent, stop = tiny({"train.steps": 3}), threading.Event()
    stop.set()
    assert train(parent, tmp_path, quiet=True, stop=stop).status == "stopped"
    with pytest.raises(UserError, match=r"is stopped at step 1 of 3 .*train --run="):
        train(tiny(STILL | {"begins.run": fingerprint(parent)}), tmp_path, quiet=True)
    for wrong in ("out/runs/nothing", "0123"):
        with pytest.raises(ConfigError, match="no run's fingerprint"):
            tiny({"begins.run": wrong})
    with pytest.raises(ConfigError, match=r"begins\.new=head changes nothing without begins\.run"):
        tiny({"begins.new": "head"})


# ---- studies


@pytest.fixture(scope="module")
def generations(tiny_fields):
    """A study of two parents, a child of each, and a child of a child; only children are in it."""
    from configs import lm

    old = [{"train.steps": steps} for steps in (2, 3)]
    young = [{"train.steps": 5, "begins.run": parent} for parent in old]
    youngest = {"train.steps": 6, "begins.run": young[0]}
    base = override(Study("base", lm.get_config(), [{}]).base, tiny_fields)
    return Study("generations", base, [youngest, *young], x="tokens", group="begins.run")


def test_a_study_trains_parents_that_it_does_not_list(generations):
    configs = study.runs(generations)
    assert [config.train.steps for config in configs] == [6, 5, 5, 2, 3]
    prints = [fingerprint(config) for config in configs]
    assert [config.begins.run for config in configs] == [
        prints[1],
        prints[3],
        prints[4],
        None,
        None,
    ]
    assert study.shown(generations, configs) == configs[:3]


@pytest.mark.exhaustive
def test_parents_come_first_alone_and_packed(generations, tmp_path):
    configs = study.runs(generations)
    losses = []
    for pack, groups in (("off", [1] * 5), ("auto", [1, 2, 2])):
        workdir, begun = tmp_path / pack, []
        jobs = plan(configs, workdir, pack=pack, devices=jax.devices()[:1]).jobs
        assert sorted(len(job.configs) for job in jobs) == groups
        results = local.run_local(jobs, workdir, workers=1, on_start=begun.append)
        assert {result.status for result in results} == {"done"}
        order = [fingerprint(config) for job in begun for config in job.configs]
        for config in configs:
            if config.begins.run is not None:
                assert order.index(config.begins.run) < order.index(fingerprint(config))
        losses.append([loss_of(config, workdir) for config in configs])
        # And again: everything is done.
        again = plan(configs, workdir, pack=pack, devices=jax.devices()[:1]).jobs
        results = local.run_local(again, workdir, workers=1, on_start=begun.append)
        assert {result.status for result in results} == {"done"}
        assert len(begun) == len(jobs)
    np.testing.assert_allclose(*losses, rtol=1e-5)  # another program, other sums


def test_a_child_whose_parent_failed_says_so(tiny, tmp_path):
    parent = tiny({"train.steps": 2, "mesh.data": 3})  # of one device
    child = tiny({"train.steps": 2, "begins.run": fingerprint(parent)})
    jobs = plan([child, parent], tmp_path).jobs
    results = local.run_local(jobs, tmp_path, workers=1, devices=jax.devices()[:1])
    reasons = {result.config.begins.run: (result.status, result.reason) for result in results}
    assert reasons[None][0] == "failed"
    status, reason = reasons[fingerprint(parent)]
    assert status == "failed"
    assert f"begins.run={fingerprint(parent)}" in reason
    assert "is failed at step 0 of 2" in reason
    assert "mesh.data=3" in reason
