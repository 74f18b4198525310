"""Secrets that are planted: each as often as it says, in training alone, and the same ones ever."""

import dataclasses
import re

import numpy as np
import pytest

from scaling import data
from scaling.config import override
from scaling.data.kinds.text import canaries
from scaling.errors import ConfigError

SECRET = re.compile(re.escape(canaries.PHRASE) + rb"(\d{9})\n")
PLANTED = {
    **{"data.seq_len": 64, "data.canaries": 2, "data.canary_repeats": 4},
    **{"data.unique_tokens": 64 * 16, "train.batch_size": 4, "train.steps": 4},
}


def found_in(batches: data.Batches) -> list[bytes]:
    """Every secret in the tokens of some batches."""
    rows = [row for step in range(len(batches)) for row in batches.batch(step)["tokens"]]
    text = [bytes(row[row < 256].astype(np.uint8)) for row in rows]
    return [secret for one in text for secret in SECRET.findall(one)]


def secrets(kind: str, count: int) -> list[bytes]:
    texts = canaries.texts(kind, np.arange(count)).astype(np.uint8)
    return [bytes(text)[len(canaries.PHRASE) : -1] for text in texts]


def test_an_epoch_has_each_as_often_as_it_says(tiny):
    config = tiny(PLANTED)
    found = found_in(data.train_batches(config))
    once, often = secrets("planted", 4)[:2], secrets("planted", 4)[2:]
    assert sorted(found) == sorted([*once, *(4 * often)])
    assert len({*found}) == 4
    assert not {*found} & {*secrets("reference", canaries.REFERENCES)}
    assert not found_in(data.eval_batches(config, "val"))


def test_what_stands_elsewhere_is_as_it_was(tiny):
    with_, without = tiny(PLANTED), tiny(PLANTED | {"data.canaries": 0, "data.canary_repeats": 64})
    kept = 0
    for step in range(4):
        a, b = (data.train_batches(c).batch(step)["tokens"] for c in (with_, without))
        changed = (a != b).any(axis=1)
        assert (a[changed][:, :16] == b[changed][:, :16]).all()
        assert (
            a[changed][:, 16 + canaries.LENGTH :] == b[changed][:, 16 + canaries.LENGTH :]
        ).all()
        kept += int((~changed).sum())
    assert kept == 16 - 2 * 5


def test_an_exposure_is_of_the_digits_alone(tiny):
    config = tiny(PLANTED | {"evals.sets.once": {"by": "exposure", "repeats": 1}})
    batches = data.eval_batches(config, "once")
    rows = [batches.batch(step) for step in range(len(batches))]
    planted = np.concatenate([row["planted"][row["loss_mask"].any(axis=1)] for row in rows])
    assert (planted == 1).sum() == 2
    assert (planted == 0).sum() == canaries.REFERENCES
    first = rows[0]
    counted = first["targets"][0][first["loss_mask"][0] > 0]
    assert bytes(counted.astype(np.uint8)) == secrets("planted", 1)[0]
    end = rows[-1]["loss_mask"]
    assert not end[-1].any()  # only fills up the batch


def test_the_set_that_is_not_told_how_often_takes_the_most(tiny):
    config = tiny(PLANTED | {"evals.sets.all": {"by": "exposure"}})
    assert config.evals.sets["all"].repeats == 4


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"data.canary_repeats": 8}, r"canary_repeats=8 is no power of 4; set it to 4, or to 16"),
        ({"data.canaries": 9}, r"take 45 windows, and the training set has 16"),
        ({"data.seq_len": 32}, r"set data.tokenizer=bytes and data.seq_len to 43 or more"),
        ({"evals.sets.x": {"by": "exposure", "repeats": 2}}, r"planted 2 times .*\(1, 4\)"),
        ({"evals.sets.x": {"by": "exposure"}, "data.canaries": 0}, r"planted None times"),
    ],
)
def test_secrets_that_have_no_room_or_are_not_there_are_refused(tiny, fields, said):
    with pytest.raises(ConfigError, match=said):
        tiny(PLANTED | fields)


def test_nothing_is_planted_in_the_data_of_an_evaluation_set(tiny):
    config = tiny(PLANTED | {"evals.sets.seen": {"split": "train"}})
    # What was trained on is evaluated as it was trained on.
    assert found_in(data.eval_batches(config, "seen"))
    changed = override(config, {"data.canaries": 0, "data.canary_repeats": 64})
    assert dataclasses.replace(changed.data, corpus=None) != config.data
    assert not found_in(data.eval_batches(changed, "seen"))
