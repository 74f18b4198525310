"""Which runs share a trunk, and what that saves."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from scaling import data, optim
from scaling.config import programs, run_name
from scaling.costs import sizes
from scaling.executors.branching import jobs, shared_steps, trunks
from scaling.executors.jobs import Job
from scaling.executors.plan import plan
from scaling.records import RunDirectory

WSD = {"optim.schedule": "wsd", "optim.warmup_fraction": None, "optim.warmup_steps": 2}


@pytest.mark.parametrize("name", ["wsd", "constant", "rsqrt", "cosine", "linear"])
def test_up_to_the_shared_steps_the_learning_rate_is_that_of_a_longer_run(tiny, name):
    """The next update of wsd differs: no step more could be shared."""
    short, long = (tiny(WSD | {"optim.schedule": name, "train.steps": steps}) for steps in (20, 40))
    rates = [
        np.asarray(optim.schedule(jnp.arange(20), programs.hparams(config), name))
        for config in (short, long)
    ]
    shared = shared_steps(short)
    np.testing.assert_array_equal(rates[0][:shared], rates[1][:shared])
    assert shared == {"wsd": 16, "constant": 19, "rsqrt": 19}.get(name, 0)
    if name == "wsd":
        assert rates[0][shared] != rates[1][shared]


def test_only_runs_that_are_alike_up_to_there_share_a_trunk(tiny):
    lengths = [tiny(WSD | {"train.steps": steps}) for steps in (10, 40, 20)]
    cooled = tiny(WSD | {"train.steps": 40, "optim.decay_fraction": 0.5})
    others = [
        tiny(WSD | {"train.steps": 30, "seed": 1}),
        tiny(WSD | {"train.steps": 30, "optim.peak_lr": 1e-3}),
        tiny(WSD | {"train.steps": 30, "optim.warmup_steps": 3}),
        tiny(WSD | {"train.steps": 30, "train.microbatches": 2}),
        tiny(WSD | {"train.steps": 30, "train.spike_z": 8.0}),
        tiny({"train.steps": 30}),
        tiny({"train.steps": 50}),
    ]
    found = trunks([*lengths, cooled, *others])
    assert [trunk.config for trunk in found] == [lengths[1], *others]
    assert [(b.step, b.config) for b in found[0].branches] == [
        (8, lengths[0]),
        (16, lengths[2]),
        (20, cooled),
    ]
    assert all(not trunk.branches for trunk in found[1:])


@pytest.mark.parametrize("every", [None, 6])
def test_runs_that_are_evaluated_on_what_they_will_have_seen_do_not_branch(tiny, every):
    """On the way, that is: at the end a branch is evaluated by itself."""
    sets = {"val": {}, "seen": {"split": "train"}}
    fields = WSD | {"evals.every": every, "evals.sets": sets}
    configs = [tiny(fields | {"train.steps": steps}) for steps in (20, 40)]
    differ = not np.array_equal(
        *(data.eval_batches(c, "seen").selection for c in configs)  # of the lines at a step
    )
    assert differ
    branches = [len(trunk.branches) for trunk in trunks(configs)]
    assert branches == ([1] if every is None else [0, 0])


def test_what_is_saved_is_what_the_branches_do_not_train(tiny):
    configs = [tiny(WSD | {"train.steps": steps}) for steps in (10, 20, 40)]
    (trunk,) = trunks(configs)
    per_step = sizes.cost(configs[0]).flops / 10
    np.testing.assert_allclose(trunk.flops_saved, (8 + 16) * per_step, rtol=1e-12)


def test_a_job_survives_as_json(tiny):
    found = trunks([tiny(WSD | {"train.steps": steps}) for steps in (10, 20, 40)])
    for job in jobs(found):
        assert Job.from_dict(json.loads(json.dumps(job.to_dict()))) == job


def test_a_plan_leaves_alone_what_has_a_state_of_its_own(tiny, tmp_path):
    configs = [tiny(WSD | {"train.steps": steps}) for steps in (10, 20, 30, 40)]
    names = [run_name(config) for config in configs]

    def branches():
        planned = plan(configs, tmp_path)
        assert sorted(run_name(c) for job in planned.jobs for c in job.configs) == sorted(names)
        waiting = [run_name(job.configs[0]) for job in planned.jobs if job.trunks]
        left = [run_name(branch.config) for job in planned.jobs for _, branch in job.branches]
        assert sorted(waiting) == sorted(left)
        return sorted(left, key=names.index), planned.flops_saved

    per_step = sizes.cost(configs[0]).flops / 10
    everything = (8 + 16 + 24) * per_step
    assert branches() == (names[:3], pytest.approx(everything))
    RunDirectory.open(configs[1], tmp_path).write_status("stopped", step=2)
    assert branches() == ([names[0], names[2]], pytest.approx(everything - 16 * per_step))
    RunDirectory.open(configs[3], tmp_path).write_status("stopped", step=12)
    assert branches() == ([names[2]], pytest.approx(24 * per_step))
    alone = plan(configs, tmp_path, branch=False)
    assert [job.configs[0] for job in alone.jobs] == configs
    assert (alone.flops_saved, alone.text()) == (0, "")


def test_the_dry_run_says_what_is_saved(tiny, tmp_path):
    configs = [tiny(WSD | {"train.steps": steps}) for steps in (10, 40)]
    planned = plan(configs, tmp_path)
    assert "1 run branches off 1 trunk: " in planned.text()
    assert f"({8 / 50:.0%})" in planned.text()
