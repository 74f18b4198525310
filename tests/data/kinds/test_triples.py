"""The territories' graph, its split, and what a rank is not to count."""

from pathlib import Path

import numpy as np
import pytest

from scaling.config import RunConfig, choices, override
from scaling.data.kinds.territories import graph
from scaling.data.kinds.triples import TriplesConfig, examples, facts, shapes, shared
from scaling.errors import ConfigError, SourceError
from scaling.studies import study

ROOT = Path("/nowhere")
DATA = TriplesConfig(validation_fraction=0.2)


def every(split: str) -> np.ndarray:
    """int [N, 3]."""
    found = examples(DATA, DATA, split, ROOT)
    batch = found.take(np.arange(len(found)))
    return np.stack([batch[name] for name in ("head", "relation", "tail")], axis=1)


def test_splits_are_all_triples_and_training_knows_every_part():
    train, held = every("train"), every("validation")
    known = facts(DATA, DATA, ROOT)
    assert (known.train_examples, known.validation_examples) == (len(train), len(held))
    both = {tuple(row) for row in [*train.tolist(), *held.tolist()]}
    assert both == {tuple(row) for row in graph(one_value=False).triples.tolist()}
    assert len(both) == len(train) + len(held)
    assert len(held) == pytest.approx(0.2 * len(both), abs=1)
    assert set(train[:, [0, 2]].ravel().tolist()) == set(range(known.sizes["entities"]))
    assert set(held[:, 1].tolist()) <= set(train[:, 1].tolist())
    assert shared(DATA, "validation", DATA, ROOT) == 0
    assert shared(DATA, "train", DATA, ROOT) == len(train)


def test_what_is_true_of_the_other_two_is_marked():
    whole = {tuple(row) for row in graph(one_value=False).triples.tolist()}
    batch = examples(DATA, DATA, "validation", ROOT).take(np.arange(0, 900, 90))
    for name, (shape, dtype) in shapes(DATA).items():
        assert batch[name].shape[1:] == shape
        assert batch[name].dtype == dtype
    for row in range(len(batch["head"])):
        head, relation, tail = (int(batch[n][row]) for n in ("head", "relation", "tail"))
        entities = range(shapes(DATA)["true_tails"][0][0])
        tails = [int((head, relation, other) in whole) for other in entities]
        heads = [int((other, relation, tail) in whole) for other in entities]
        assert batch["true_tails"][row].tolist() == tails
        assert batch["true_heads"][row].tolist() == heads
        assert tails[tail] == heads[head] == 1


def test_mistakes_are_named():
    with pytest.raises(SourceError, match="write territories"):
        facts(TriplesConfig(source="freebase"), DATA, ROOT)
    run = RunConfig(
        model=choices.new("model", "transe"),
        data=DATA,
        objective=choices.new("objective", "link_prediction"),
    )
    for name, value, said in (
        ("data.entities", 7, "leave it unset"),
        ("model.relations", 3, "leave model.relations unset"),
        ("model.depth", 2, "be 1"),
        ("objective.margin", 2.0, "objective.loss=margin"),
        ("data.unique_triples", 10**6, "more than the train split"),
    ):
        with pytest.raises(ConfigError, match=said):
            study.resolve(override(run, {name: value}))
