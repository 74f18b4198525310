"""Bits that a model knows of facts, reckoned once more from its losses."""

import math

import jax
import numpy as np
import pytest

from configs import knowledge, vectors
from scaling import data
from scaling.config import eval_set, from_dict
from scaling.errors import ConfigError
from scaling.records import RunDirectory
from scaling.studies import study
from scaling.train.loop import train


@pytest.mark.slow
def test_bits_known_are_those_that_are_there_less_the_loss(tmp_path):
    base = knowledge.get_config()
    base.model.width, base.data.people, base.data.values = 16, 30, 8
    base.train.batch_size = 8
    base.train.epochs, base.evals.batch_size = 100.0, 16
    with base.unlocked():
        base.evals.sets.again = eval_set(split="train")
    config = study.resolve(from_dict(base))
    assert train(config, tmp_path, devices=jax.devices()[:1], quiet=True).status == "done"
    lines = {line["split"]: line for line in RunDirectory.open(config, tmp_path).metrics()}
    told, again = lines["told"], lines["again"]
    assert told["rows"] == 30
    batch = data.eval_batches(config, "told").batch(0)
    places = batch["loss_mask"].sum(axis=1).mean()
    spent = again["loss"] * places / math.log(2)
    assert told["known_bits"] == pytest.approx(batch["prior_bits"][0] - spent, rel=1e-4)
    apart = lines["names"]["known_bits"] + lines["values"]["known_bits"]
    assert told["known_bits"] == pytest.approx(apart, rel=1e-4)
    # So few are soon known by heart, and more than there is to know nobody knows.
    assert 0.9 * told["fact_bits"] < told["known_bits"] <= told["fact_bits"]
    assert told["exact_match"] <= lines["values"]["exact_match"]
    assert np.isfinite(told["known_bits_se"])


def test_bits_of_facts_need_facts():
    base = vectors.get_config("debug")
    with base.unlocked():
        base.evals.sets.told = eval_set(by="facts")
    with pytest.raises(ConfigError, match=r"told.by=facts needs"):
        study.resolve(from_dict(base))
