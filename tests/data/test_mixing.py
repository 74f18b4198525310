"""Rows of several data in one stream: shares that hold everywhere, streams without a gap."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling import data
from scaling.config import MixtureConfig, fingerprint, from_dict, override, to_dict
from scaling.config.nested import from_text
from scaling.data.mixing import dealt
from scaling.errors import ConfigError, DataError
from scaling.studies import study

SETS = {
    "evals.sets.turned": {"permutation": 1},
    "evals.sets.two": {"labels": "0,1"},
}


@pytest.fixture(scope="module")
def digits():
    """`digits(fields)`: a resolved run on images, evaluated on two further sets of them."""
    from configs import vision

    base = override(from_dict(vision.get_config("debug")), SETS | {"train.batch_size": 8})

    def of(fields=None):
        return study.resolve(override(base, fields or {}))

    return of


@settings(max_examples=25)
@given(st.lists(st.floats(0.0, 0.3), min_size=1, max_size=3), st.randoms())
def test_shares_hold_in_any_stretch_and_every_stream_is_read_without_a_gap(shares, random):
    rows = np.arange(500)
    of, place = np.full(500, -1), np.full(500, -1)
    shuffled = np.array(random.sample(range(500), 500))
    for which, here, at in dealt(shuffled, shares):
        of[shuffled[here]], place[shuffled[here]] = which, at
    for which, share in enumerate((1 - sum(shares), *shares)):
        (own,) = (of == which).nonzero()
        np.testing.assert_array_equal(place[own], np.arange(len(own)))
        # To a row at each of the levels that deal.
        assert (abs(np.cumsum(of == which) - share * (rows + 1)) <= len(shares) + 1e-6).all()


def test_a_run_reads_its_own_data_as_without_the_others(digits):
    mixed, plain = digits({"mixture.shares.turned": 0.25}), digits()
    ours, alone = data.train_batches(mixed), data.train_batches(plain)
    joined = [{k: np.concatenate([b.batch(s)[k] for s in range(8)]) for k in ("image", "label")}
              for b in (ours, alone)]  # fmt: skip
    others = np.concatenate([here for which, here, _ in dealt(np.arange(64), [0.25]) if which])
    own = np.setdiff1d(np.arange(64), others)
    assert len(others) == 16
    for name in ("image", "label"):
        np.testing.assert_array_equal(joined[0][name][own], joined[1][name][:48])
    turned = data.train_batches(digits({"data.permutation": 1, "data.shift": 1}))
    there = np.concatenate([turned.batch(s)["label"] for s in range(2)])
    np.testing.assert_array_equal(joined[0]["label"][others], there)
    for host in range(2):
        rows = np.arange(4) + 4 * host
        np.testing.assert_array_equal(ours.batch(3, rows)["image"], ours.batch(3)["image"][rows])


def test_a_memory_is_all_that_is_drawn_from(digits):
    few = digits({"mixture.shares.turned": 0.5, "mixture.memory": 3, "data.shift": 0})
    batches = data.train_batches(few)
    others = np.concatenate([h for which, h, _ in dealt(np.arange(8), [0.5]) if which])
    seen = np.concatenate([batches.batch(s)["image"][others] for s in range(6)])
    assert len(np.unique(seen.reshape(len(seen), -1), axis=0)) == 3


def test_no_share_is_none_and_what_cannot_be_is_named(digits):
    assert digits({"mixture.shares.turned": 0.0}) == digits()
    assert fingerprint(digits({"mixture.shares.turned": 0.1})) != fingerprint(digits())
    for fields, message in (
        ({"mixture.shares.turnd": 0.1}, r"no evaluation set evals\.sets\.turnd.*turned"),
        ({"mixture.shares.turned": 1.5}, r"mixture\.shares\.turned=1\.5 must lie between"),
        ({"mixture.shares.turned": 0.5, "mixture.shares.two": 0.5}, "add up to 1"),
        (
            {"mixture.shares.turned": 0.5, "privacy.clip_norm": 1.0},
            r"privacy\.clip_norm=1\.0 and mixture\.shares cannot go together",
        ),
        ({"mixture.memory": 4}, r"mixture\.memory=4 changes nothing without mixture\.shares"),
    ):
        with pytest.raises(ConfigError, match=message):
            digits(fields)
    assert from_text(dataclasses.replace(digits()), "mixture.shares.turned", "0.25") == 0.25
    assert MixtureConfig() == from_dict(to_dict(digits())).mixture


def test_nothing_that_is_mixed_in_is_evaluated_on(digits):
    fields = {"evals.sets.whole": {"permutation": 1, "split": "all"}}
    with pytest.raises(DataError, match=r"evals\.sets\.whole.*are in the train split"):
        data.eval_batches(digits(fields | {"mixture.shares.turned": 0.1}), "whole")


def test_tasks_of_images_are_the_same_whoever_is_trained_on_which(digits):
    runs = [digits(), digits({"data.permutation": 1}), digits({"data.labels": "0,1"})]
    for name, other in (("turned", 1), ("two", 2)):  # but for what the set leaves to the run
        assert len({runs[i].evals.sets[name].corpus for i in (0, other)}) == 1
    assert runs[1].data.corpus == runs[0].evals.sets["turned"].corpus
    assert runs[2].data.corpus == runs[0].evals.sets["two"].corpus
    turned, plain, two = (data.train_batches(runs[i]).examples for i in (1, 0, 2))
    ours, theirs = (one.take(np.arange(5))["image"].reshape(5, -1) for one in (turned, plain))
    np.testing.assert_array_equal(np.sort(ours), np.sort(theirs))
    assert (ours != theirs).any()
    assert set(two.take(np.arange(len(two)))["label"].tolist()) == {0, 1}
    with pytest.raises(DataError, match=r"data\.labels: .*numbers of classes"):
        digits({"data.labels": "zero"})
    with pytest.raises(DataError, match="no image of labels=11"):
        digits({"data.labels": "11"})
