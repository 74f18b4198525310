"""Rows of several tasks: by their shares, each as its own kind has it."""

import dataclasses
import json

import numpy as np
import pytest

from scaling.config import choices
from scaling.config.contracts import ENDLESS
from scaling.data.kinds.multitask import KIND, MultitaskConfig
from scaling.data.kinds.multitask.mixed import shares
from scaling.errors import ConfigError, SourceError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(data of three small tasks, folder of what is prepared)."""
    folder = tmp_path_factory.mktemp("tasks")
    lines = {
        "labels": [{"text": f"text {i} of {i % 3}", "label": i % 3} for i in range(60)],
        "tags": [{"words": ["a", f"b{i}"], "tags": ["x", "y"]} for i in range(30)],
    }
    for name, rows in lines.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for i in range(40):
        (folder / f"{i}.txt").write_text(f"document {i} " * 20)
    source = f"labelled=lines:{folder}/labels.jsonl,tagged=lines:{folder}/tags.jsonl,"
    source += f"text=text:{folder}/*.txt"
    return MultitaskConfig(source=source, seq_len=16, validation_fraction=0.3), folder / "root"


def resolved(made, **fields):
    data, root = dataclasses.replace(made[0], **fields), made[1]
    return KIND.resolve(data, KIND.facts(data, data, root)), root


def drawn(made, count=4000, **fields):
    data, root = resolved(made, **fields)
    examples = KIND.examples(data, data, "train", root)
    assert len(examples) == ENDLESS
    return data, examples, examples.take(np.arange(count) * 1_000_003)


def test_rows_are_drawn_by_the_shares(made):
    for fields in ({}, {"weights": "1,0,3"}, {"temperature": 2.0}):
        data, _, batch = drawn(made, **fields)
        found = np.bincount(batch["task"], minlength=3) / len(batch["task"])
        np.testing.assert_allclose(found, shares(data), atol=0.03)  # four standard deviations
    sizes = [int(size) for size in data.sizes.split(",")]
    roots = np.sqrt(sizes)
    np.testing.assert_allclose(shares(data), roots / roots.sum())
    assert shares(resolved(made, weights="1,0,3")[0]) == [0.25, 0.0, 0.75]


def test_a_row_is_what_its_own_kind_has_and_nothing_of_the_others(made):
    _, examples, batch = drawn(made, 300)
    assert set(batch) == KIND.fields
    weights = {0: "label_weight", 1: "tags_weight", 2: "token_weight"}
    for task, own in weights.items():
        here = batch["task"] == task
        assert batch[own][here].reshape(here.sum(), -1).any(axis=1).all()
        for other in KIND.weights:
            if other != own:
                assert not batch[other][here].any()
    known = examples.parts[0].take(np.arange(len(examples.parts[0])))
    texts = {
        row.tobytes(): label for row, label in zip(known["tokens"], known["label"], strict=True)
    }
    here = batch["task"] == 0
    for row, label in zip(batch["tokens"][here], batch["label"][here], strict=True):
        assert texts[row.tobytes()] == label
    again = examples.take(np.arange(300) * 1_000_003)
    for name, x in batch.items():
        np.testing.assert_array_equal(x, again[name])


def test_a_subset_is_of_each_task_and_an_evaluation_has_all_alike_or_one(made):
    _, _, batch = drawn(made, unique_examples=5)
    rows = {row.tobytes() for row in batch["tokens"][batch["task"] == 0]}
    assert len(rows) == 5
    data, root = resolved(made)
    held_out = KIND.examples(data, data, "validation", root)
    batch = held_out.take(np.arange(len(held_out)))
    counts = np.bincount(batch["task"])
    assert len(set(counts)) == 1
    assert len(held_out) == KIND.facts(data, data, root).validation_examples == counts.sum()
    part = dataclasses.replace(data, part="tagged", corpus=None)
    alone = KIND.examples(part, data, "validation", root)
    assert set(alone.take(np.arange(len(alone)))["task"]) == {1}
    assert KIND.shared(data, "validation", data, root) == 0


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"source": "tagged=tokens,tagged=tokens"}, SourceError, "has tagged twice"),
        ({"source": "tagged"}, SourceError, 'source "tagged": "tagged" is no task and its source'),
        ({"source": "images=digits"}, SourceError, "is no task and its source; write one or more"),
        ({"part": "questions"}, SourceError, '"questions" is no task of'),
        ({"weights": "1,2"}, ConfigError, r"data\.weights='1,2' must be 3 numbers"),
        ({"weights": "0,0,0"}, ConfigError, "and not all 0"),
        ({"weights": "1,-1,1"}, ConfigError, "none below 0"),
        ({"weights": "1,1,1", "temperature": 2.0}, ConfigError, "both say the shares"),
        ({"unique_examples": 10_000}, ConfigError, "is more than the train split of labelled has"),
    ],
)
def test_what_is_no_mixture_is_refused(made, fields, error, message):
    with pytest.raises(error, match=message):
        resolved(made, **fields)


def test_it_is_a_kind_of_its_own():
    """No objective of one task takes it: its weights have other names."""
    for name in ("tagging", "classification", "spans", "masked_tokens", "next_token"):
        assert choices.record("objective", name).fields - KIND.fields
