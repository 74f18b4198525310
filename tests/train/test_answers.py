"""Answers that are right in one pass are those that greedy decoding writes."""

import jax
import numpy as np
import pytest

from configs import sequences, vectors
from scaling import data
from scaling.config import eval_set, from_dict, override
from scaling.errors import ConfigError
from scaling.families.decoding import GREEDY
from scaling.families.transformer.generate import generate
from scaling.records import RunDirectory
from scaling.studies import study
from scaling.train.loop import train
from scaling.train.opened import newest

LENGTH = 2


def reversals(overrides: dict | None = None):
    base = sequences.get_config("debug")
    base.data.source, base.data.symbols, base.data.length = "reverse", 3, LENGTH
    base.train.units, base.train.batch_size, base.train.log_every = 6_000.0, 32, 100
    base.model.width = 16
    base.evals.batches, base.data.validation_examples = 2, 128
    with base.unlocked():
        base.evals.sets.right = eval_set(by="answers", part="x1")
    return study.resolve(override(from_dict(base), overrides or {}))


@pytest.mark.slow
def test_a_right_answer_is_what_would_be_generated(tmp_path):
    config = reversals()
    assert train(config, tmp_path, devices=jax.devices()[:1], quiet=True).status == "done"
    run = RunDirectory.open(config, tmp_path)
    (line,) = [line for line in run.metrics() if line["split"] == "right"]
    params = newest(run).used
    batches = data.eval_batches(config, "right")
    exact, places = [], []
    for step in range(len(batches)):
        batch = batches.batch(step)
        prompt = batch["tokens"][:, : LENGTH + 1]
        written = generate(config.model, params, prompt, LENGTH + 1, jax.random.key(0), GREEDY)[
            :, LENGTH + 1 :
        ]
        right = np.asarray(written) == batch["targets"][:, LENGTH:]
        exact += right.all(axis=1).tolist()
        places += right.ravel().tolist()
    assert line["rows"] == len(exact) == 128
    assert line["exact_match"] == np.mean(exact)
    # Behind a wrong place greedy decoding goes on from what it wrote, and one pass from the truth.
    assert line["token_accuracy"] >= np.mean(places) - 0.05
    assert 0.2 < np.mean(exact) < 1


def test_answers_need_an_accuracy():
    base = vectors.get_config("debug")
    with base.unlocked():
        base.evals.sets.right = eval_set(by="answers")
    with pytest.raises(ConfigError, match=r"right.by=answers needs an objective with an accuracy"):
        study.resolve(from_dict(base))
