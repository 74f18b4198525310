"""Spikes: found by a robust score, gone back on, skipped; the same however the run is cut."""

import collections
import dataclasses
import itertools
import pathlib
import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from reading import final_state, lines
from test_kill import start

from scaling.config import RunConfig, TrainConfig, choices
from scaling.objectives import OBJECTIVES
from scaling.records import RunDirectory
from scaling.records.tables import table
from scaling.train.checkpoint import Checkpoints, steps
from scaling.train.loop import train
from scaling.train.rhythm import kept, saves
from scaling.train.spikes import MOST, Spike, Spikes, z_score
from scaling.train.state import TrainState

WINDOW = 8
CONFIG = RunConfig(train=TrainConfig(steps=100, spike_z=6.0, spike_window=WINDOW))


def test_the_score_is_that_of_a_normal_distribution_and_no_outlier_moves_it():
    usual = list(np.random.default_rng(0).normal(3.0, 0.1, 10_000))
    assert z_score(3.5, usual) == pytest.approx(5.0, abs=0.15)
    assert z_score(3.5, [*usual[:-1], 1e9]) == pytest.approx(z_score(3.5, usual), rel=1e-2)
    # Losses that do not differ at all: a difference in the last digits is no spike.
    assert z_score(3.0 * (1 + 1e-6), [3.0] * 8) < 1


def trained(loss_of, cuts: set[int]) -> tuple[list[tuple[int, int]], list[dict]]:
    """(step, batch) of every update that counts, and the spikes, of a run of 100 steps that is
    cut off whenever its count of updates made is in `cuts`. Checkpoints are at multiples of the
    window and of seven.
    """
    records: list[dict] = []
    saved: dict[int, list[float]] = {}
    history: dict[int, int] = {}
    made = 0
    while True:
        spikes = Spikes(CONFIG, records)
        step = max(saved, default=0)
        spikes.begin(saved.get(step))
        try:
            while step < 100:
                batch = spikes.batch_of(step)
                history[step] = batch
                made += 1
                spikes.look(step, [loss_of(step, batch)])
                step += 1
                if step % WINDOW == 0 or step % 7 == 0:
                    saved[step] = spikes.losses
                if made in cuts:
                    raise InterruptedError
            return sorted(history.items()), records
        except Spike as spike:
            back_to = spike.record["back_to"]
            saved = {s: losses for s, losses in saved.items() if s <= back_to}
            history = {s: b for s, b in history.items() if s < back_to}
            if made not in cuts:  # else cut between the two: it is met again
                records.append(spike.record)
        except InterruptedError:
            if random.Random(made).random() < 0.5 and saved:
                del saved[max(saved)]  # damaged: the one before is taken


def noise(step: int, batch: int) -> float:
    bad = 50.0 if batch in (20, 21, 43, 90) else 0.0
    return 4.0 - 0.01 * step + 0.01 * random.Random(batch).random() + bad


def test_no_step_is_made_on_a_bad_batch_and_cuts_change_nothing():
    whole, spikes = trained(noise, set())
    assert [step for step, _ in whole] == list(range(100))
    batches = [batch for _, batch in whole]
    assert not {20, 21, 43, 90} & set(batches)
    assert batches == sorted(set(batches))
    assert len(spikes) == 4  # what is skipped ends with the bad batch, so each of them is met
    for seed in range(20):
        cuts = set(random.Random(seed).sample(range(1, 130), 12))
        assert trained(noise, cuts) == (whole, spikes)


def test_a_loss_that_stays_up_is_taken_as_it_is_in_the_end():
    def jumps(step: int, batch: int) -> float:
        return 4.0 if step < 30 else 9.0

    history, spikes = trained(jumps, set())
    assert len(history) == 100
    # Until the higher loss fills half of the window.
    assert collections.Counter(s["back_to"] for s in spikes) == {24: MOST, 32: MOST}


def test_where_more_is_better_a_spike_goes_down(monkeypatch):
    """A reported log-likelihood: the negative of a loss, with the same spikes at the same steps."""
    known = choices.record("objective", "next_token")
    gain = dataclasses.replace(known.metrics["loss"], label="log-likelihood", better="higher")
    turned = dataclasses.replace(known, metrics={**known.metrics, "loss": gain})
    history, spikes = trained(noise, set())
    monkeypatch.setitem(OBJECTIVES, "next_token", turned)
    again, found = trained(lambda step, batch: -noise(step, batch), set())
    assert again == history
    assert [s["step"] for s in found] == [s["step"] for s in spikes]
    assert all(s["loss"] < 0 for s in found)


def test_off_it_does_nothing():
    off = Spikes(RunConfig(), [])
    off.look(0, [1.0] * 200 + [1e9])
    assert off.losses is None
    assert off.batch_of(17) == 17


@pytest.mark.parametrize("every", [1, 3, 7, 20, None])
@pytest.mark.parametrize("keep", [1, 2, 5])
def test_whatever_state_is_gone_on_from_a_spike_finds_its_checkpoint(tiny, every, keep):
    """From each checkpoint that is kept, the newest ones damaged, to the next that is saved."""
    config = tiny(
        {
            **{"train.spike_z": 6.0, "train.spike_window": WINDOW, "train.steps": 100},
            **{"train.checkpoint_every": every, "train.keep_checkpoints": keep},
        }
    )
    there: set[int] = set()
    for saved in (step for step in range(1, 101) if saves(step, config)):
        there = kept([*there, saved], config)
        assert saved in there
        assert len(there) <= keep + 1
        for step in sorted(there)[-keep:]:
            assert step < WINDOW or step // WINDOW * WINDOW in there


def test_checkpoints_between_do_not_push_out_the_one_to_go_back_to(tiny, tmp_path):
    config = tiny({"train.spike_z": 6.0, "train.spike_window": WINDOW, "train.steps": 40})

    def state(step: int) -> TrainState:
        return TrainState(jnp.int32(step), {"w": jnp.full(3, float(step))}, {}, None)

    with Checkpoints(tmp_path / "a" / "checkpoints", config) as checkpoints:
        for step in (3, 6, WINDOW, 9, 12, 15):
            checkpoints.save(step, state(step), [float(step)])
            checkpoints.wait()
        assert steps(tmp_path / "a" / "checkpoints") == [WINDOW, 12, 15]
        spikes = Spikes(config, [])
        spikes.begin([1.0] * WINDOW)
        with pytest.raises(Spike) as met:
            spikes.look(15, [50.0])
        checkpoints.drop_after(met.value.record["back_to"])
        found = checkpoints.restore(jax.tree.map(ocp.utils.to_shape_dtype_struct, state(0)))
        assert found is not None
        assert int(found.step) == WINDOW
        assert checkpoints.losses(WINDOW) == [float(WINDOW)]
        # The next multiple takes its place when the newest are not before it.
        for step in (15, 16, 18, 21):
            checkpoints.save(step, state(step), [float(step)])
        checkpoints.wait()
    assert steps(tmp_path / "a" / "checkpoints") == [16, 18, 21]


@pytest.fixture
def spoilt(text_files: pathlib.Path, tmp_path: pathlib.Path) -> str:
    """The small text files, and among them a little of what no model could foresee."""
    root = tmp_path / "text"
    shutil.copytree(text_files, root)
    letters = random.Random(0).choices("~^{}|@#$%&*<>?;:QXZJK", k=100)
    (root / "noise.txt").write_text("".join(letters))
    return f"text:{root}/*.txt"


@pytest.mark.exhaustive
def test_a_run_that_went_back_is_the_same_killed_and_resumed(tiny, spoilt, tmp_path):
    config = tiny(
        {
            **{"data.source": spoilt, "train.steps": 160, "train.batch_size": 4},
            **{"train.spike_z": 9.0, "train.spike_window": 10, "evals.every": 7},
            **{"optim.schedule": "constant"},
        }
    )
    train(config, tmp_path / "whole", devices=jax.devices()[:1], quiet=True)
    whole, cut = (RunDirectory.open(config, tmp_path / name) for name in ("whole", "cut"))
    found = [{k: v for k, v in s.items() if k != "time"} for s in whole.spikes()]
    assert 1 <= len(found) <= 6
    # The program is compiled once: no return takes its seconds off those of the steps.
    steps_s = [s["time/step_s"] for s in whole.metrics() if s["split"] == "train"]
    assert min(steps_s) > 1e-5
    # Steps are saved anywhere: cut every so many lines, by a kill.
    for count in itertools.count(35, 29):
        process = start(config, tmp_path / "cut")
        metrics = cut.path / "metrics.jsonl"
        while process.poll() is None:
            if metrics.exists() and metrics.read_text().count("\n") >= count:
                process.kill()
        process.wait()
        if cut.is_done or count > 140:
            break
    if not cut.is_done:
        assert start(config, tmp_path / "cut").wait() == 0
    assert lines(cut) == lines(whole)
    assert [{k: v for k, v in s.items() if k != "time"} for s in cut.spikes()] == found
    for ours, theirs in zip(final_state(cut), final_state(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    (row,) = table(tmp_path / "whole").to_dict("records")
    assert row["spikes"] == len(found)
