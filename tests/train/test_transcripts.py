"""The evaluation pass of models that hear: its numbers are jiwer's of the texts that they write."""

from typing import Any

import jax
import jiwer
import numpy as np
import pytest
from reading import lines

from scaling import data
from scaling.config import base_config, from_dict, override
from scaling.errors import ConfigError
from scaling.families.speech.transcribe import transcribe
from scaling.records import RunDirectory
from scaling.records.tables import table
from scaling.studies import study
from scaling.train.loop import train
from scaling.train.opened import newest

FIELDS: dict[str, Any] = {
    **{"model.width": 16, "model.depth": 1, "model.heads": 1, "model.scan_layers": False},
    **{"data.utterances": 60, "data.sample_rate": 4000},
    **{"train.steps": 2, "train.batch_size": 16, "evals.batch_size": 8, "evals.batches": 2},
    "evals.sets.texts": {"by": "generate"},
    "evals.sets.beams": {"by": "generate", "beams": 3},
}


def base() -> Any:
    return from_dict(base_config(family="speech", data="speech", objective="ctc"))


@pytest.mark.slow
def test_transcripts_are_judged_as_whole_texts(tmp_path):
    """Of a set whose last batch is not full, by the best path and by a search."""
    config = study.resolve(override(base(), FIELDS))
    assert train(config, tmp_path, devices=jax.devices()[:1], quiet=True).status == "done"
    found = {line["split"]: line for line in lines(RunDirectory.open(config, tmp_path))}
    params = newest(RunDirectory.open(config, tmp_path)).used
    for name, beams in (("texts", 1), ("beams", 3)):
        batches, wrote, said = data.eval_batches(config, name), [], []
        for step in range(len(batches)):
            batch = batches.batch(step)
            room = config.data.transcript_len
            tokens, _ = transcribe(config.model, params, batch, room, beams)
            for row in (batch["weight"] > 0).nonzero()[0]:
                text = batch["transcript"][row, : batch["transcript_length"][row]]
                said.append(bytes(text.tolist()).decode())
                kept = [token for token in np.asarray(tokens)[row].tolist() if token != 256]
                wrote.append(bytes(kept).decode(errors="replace"))
        line = found[name]
        assert line["rows"] == len(said) < len(batches) * config.evals.batch_size
        assert line["word_error"] == pytest.approx(jiwer.wer(said, wrote))
        assert line["character_error"] == pytest.approx(jiwer.cer(said, wrote))
        assert line["exact_match"] == np.mean([a == b for a, b in zip(wrote, said, strict=True)])
        assert any(wrote)  # letters at random: hardly any training, which would begin with none
    assert table(tmp_path).iloc[0]["word_error/texts"] == found["texts"]["word_error"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"evals.sets.t": {"by": "generate", "prompt": 3}}, r"evals\.sets\.t\.prompt=3"),
        ({"evals.sets.t": {"by": "generate", "copies": True}}, r"evals\.sets\.t\.copies"),
        ({"data.noise": -1.0}, r"data\.noise"),
    ],
)
def test_what_transcripts_cannot_do_is_said(fields, says):
    with pytest.raises(ConfigError, match=says):
        study.resolve(override(base(), {"data.utterances": 60, "data.sample_rate": 2000} | fields))
