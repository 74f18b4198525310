"""Two passages in a row: which follow on each other, and what is drawn anew."""

import dataclasses

import numpy as np
import pytest

from scaling.config import choices
from scaling.data.kinds.passages import KIND, PassagesConfig
from scaling.data.kinds.text import KIND as TEXT
from scaling.data.kinds.text import TextConfig

LENGTH, HALF = 15, 7


@pytest.fixture(scope="module")
def both(text_files, tmp_path_factory):
    """The passages of the train split, and its windows."""
    root = tmp_path_factory.mktemp("passages")
    fields = {"source": f"text:{text_files}/*.txt", "seq_len": LENGTH, "validation_fraction": 0.2}
    found = []
    for record, config in ((KIND, PassagesConfig), (TEXT, TextConfig)):
        data = config(**fields, mask_documents=False)
        facts = record.facts(data, data, root)
        data = dataclasses.replace(data, corpus=facts.content_hash)
        found.append(record.examples(data, data, "train", root))
    return found


def test_half_of_the_second_passages_are_of_elsewhere(both):
    passages, windows = both
    indices = np.arange(len(passages))
    batch, own = passages.take(indices), windows.take(indices)["tokens"]
    np.testing.assert_array_equal(batch["tokens"][:, :HALF], own[:, :HALF])
    follows = batch["follows"] == 1
    assert abs(follows.mean() - 0.5) < 4 * np.sqrt(0.25 / len(indices))
    np.testing.assert_array_equal(batch["tokens"][follows], own[follows])
    seconds = {row.tobytes() for row in own[:, HALF:]}
    assert all(row.tobytes() in seconds for row in batch["tokens"][:, HALF:])
    assert (batch["tokens"][~follows, HALF:] != own[~follows, HALF:]).any(axis=1).mean() > 0.9
    assert batch["token_types"].sum(axis=1).tolist() == [LENGTH - HALF] * len(indices)


def test_it_is_drawn_anew_by_key_and_always_alike_without(both):
    passages, _ = both
    indices = np.arange(40)
    fixed = [passages.take(part)["follows"] for part in (indices, indices[::-1])]
    np.testing.assert_array_equal(fixed[0], fixed[1][::-1])
    keys = [np.arange(first, first + 40, dtype=np.uint64) for first in (0, 0, 99)]
    one, again, other = (passages.take(indices, key) for key in keys)
    np.testing.assert_array_equal(one["tokens"], again["tokens"])
    assert (one["follows"] != other["follows"]).any()


def test_the_next_token_is_not_asked_of_it():
    assert choices.record("objective", "next_token").fields - KIND.fields
