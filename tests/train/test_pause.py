"""A run that pauses is evaluated and saved there, and goes on as if it had not."""

import jax
import numpy as np
import pytest
from reading import final_state, lines

from scaling.config import run_name
from scaling.executors import jobs as jobs_lib
from scaling.executors.jobs import Job
from scaling.executors.local import run_local
from scaling.records import RunDirectory
from scaling.train.loop import train

PAUSE = 5


@pytest.fixture(scope="module")
def runs(tiny):
    return [tiny({"seed": seed, "evals.every": None}) for seed in (0, 1)]


@pytest.fixture(scope="module")
def whole(runs, tmp_path_factory):
    """Never paused."""
    workdir = tmp_path_factory.mktemp("whole")
    for config in runs:
        train(config, workdir, devices=jax.devices()[:1], quiet=True)
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_a_paused_run_goes_on_as_if_it_had_not(runs, whole, tmp_path, packed):
    pauses = tuple((run_name(config), PAUSE) for config in runs)
    groups = [tuple(runs)] if packed else [(config,) for config in runs]
    paused = [Job(group, pauses=pauses) for group in groups]
    assert Job.from_dict(paused[0].to_dict()) == paused[0]
    assert jobs_lib.over(paused[0], tmp_path) is None
    one = {"workers": 1, "devices": jax.devices()[:1]}
    # The first pauses; the second time there is nothing to do.
    for _ in range(2):
        assert {r.status for r in run_local(paused, tmp_path, **one)} == {"paused"}
        for config in runs:
            run = RunDirectory.open(config, tmp_path)
            assert run.status()["step"] == PAUSE
            assert [x["step"] for x in run.metrics() if x["split"] == "val"] == [PAUSE]
    done = run_local([Job(group) for group in groups], tmp_path, **one)
    assert {r.status for r in done} == {"done"}
    for config in runs:
        ours, theirs = (RunDirectory.open(config, place) for place in (tmp_path, whole))
        more = [x for x in lines(ours) if x["step"] != PAUSE or x["split"] == "train"]
        for line, expected in zip(more, lines(theirs), strict=True):
            for name, value in expected.items():
                # Packed is another program, which rounds otherwise.
                rounds = packed and isinstance(value, float)
                assert line[name] == (pytest.approx(value, rel=1e-5) if rounds else value)
        for leaf, wanted in zip(final_state(ours), final_state(theirs), strict=True):
            np.testing.assert_allclose(leaf, wanted, rtol=1e-4 if packed else 0, atol=1e-6 * packed)
