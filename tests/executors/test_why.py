"""`sweep --why`: each state has its reason, and a changed config shows what was changed."""

import os
import stat

import pytest

from scaling.config import RunConfig, override
from scaling.executors import why
from scaling.records import RunDirectory


@pytest.fixture
def plan():
    base = {"train.steps": 20, "data.corpus": "c0ffee", "evals.sets.val.corpus": "c0ffee"}
    return [override(RunConfig(), base | {"seed": seed}) for seed in range(6)]


def begin(config, workdir, state, **fields) -> RunDirectory:
    run = RunDirectory.open(config, workdir)
    run.start(config, {})
    run.write_status(state, steps=20, **fields)
    return run


def test_every_state_has_its_reason(tmp_path, plan):
    begin(plan[0], tmp_path, "done", step=20)
    begin(plan[1], tmp_path, "diverged", step=5, reason="loss is nan in step 6")
    failed = begin(plan[2], tmp_path, "failed", step=7, reason="out of memory")
    failed.add_attempt(failure="memory", reason="out of memory", changed={"train.microbatches": 2})
    begin(plan[3], tmp_path, "stopped", step=8)
    running = begin(plan[4], tmp_path, "running", step=9)
    with running.lock():
        pid = (running.path / "lock").read_text().strip()
        found = why.reasons(plan, tmp_path)
    assert [r.state for r in found] == ["done", "diverged", "failed", "stopped", "running", "new"]
    assert [r.runs for r in found] == [False, False, True, True, False, True]
    assert found[1].text == "diverged at step 5 of 20, kept as a result: loss is nan in step 6"
    assert found[2].text == (
        "failed at step 7 of 20: out of memory; tried again with train.microbatches=2 (1 attempts "
        "so far)"
    )
    assert "stopped at step 8 of 20" in found[3].text
    assert f"running, step 9 of 20, by process {pid}" in found[4].text
    assert found[5].text == "never started"
    text = why.text(found)
    assert "trained: 3 (1 failed, 1 stopped, 1 new)" in text
    assert "not trained: 3 (1 done, 1 diverged, 1 running)" in text
    # Without the lock it was killed: it goes on.
    assert why.reasons(plan, tmp_path)[4].runs


def test_where_no_lock_can_be_seen_a_run_that_says_running_is_trained(tmp_path, plan):
    """As on an object store. Here the lock is a socket, which nobody can open."""
    killed = begin(plan[0], tmp_path, "running", step=9)
    os.mknod(killed.path / "lock", stat.S_IFSOCK | 0o600)
    (found,) = why.reasons(plan[:1], tmp_path)
    assert (found.state, found.runs) == ("running", True)
    assert "running or killed, at step 9 of 20" in found.text
    assert "trained: 1 (1 running)" in why.text([found])


def test_a_changed_config_is_held_against_its_older_self(tmp_path, plan):
    for config in plan:
        begin(config, tmp_path, "done", step=20)
    changed = [override(c, {"optim.b2": 0.9, "train.batch_size": 64}) for c in plan]
    for old, reason in zip(plan, why.reasons(changed, tmp_path), strict=True):
        name = RunDirectory.open(old, tmp_path).path.name
        assert f"nearest is {name}: optim.b2 was {old.optim.b2}, is 0.9" in reason.text
        assert "train.batch_size was 32, is 64" in reason.text
    # How a run is executed is no change.
    moved = [override(c, {"mesh.fsdp": 2, "train.log_every": 1}) for c in plan]
    assert {r.text for r in why.reasons(moved, tmp_path)} == {"done: skipped"}


def test_a_run_that_the_study_still_has_is_nobodys_older_self(tmp_path, plan):
    begin(plan[0], tmp_path, "done", step=20)
    found = why.reasons(plan, tmp_path)
    assert [r.text for r in found[1:]] == ["never started"] * 5
