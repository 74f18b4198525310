"""Facts: people who are made up and true ones of territories, and what is retrieved beside them."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaling.config import RunConfig, choices, override
from scaling.data.kinds.facts import FactsConfig, examples, facts, shapes, shared, source_of, truth
from scaling.data.kinds.facts.biographies import _shuffled
from scaling.data.kinds.facts.told import _FORMS, _facts
from scaling.data.kinds.territories import ONE_VALUE, RELATIONS, graph
from scaling.errors import ConfigError, SourceError
from scaling.studies import study

ROOT = Path("/nowhere")  # nothing is read or written
PEOPLE: dict[str, Any] = {"people": 40, "strangers": 10, "symbols": 8, "attributes": 3, "values": 4}


def take(data: FactsConfig, split: str, indices: Any, keys: Any = None) -> dict[str, np.ndarray]:
    return examples(data, data, split, ROOT).take(np.asarray(indices), keys)


def keys(count: int, first: int = 1) -> np.ndarray:
    return np.arange(first, first + count).astype(np.uint64)


def text(row: np.ndarray) -> str:
    return bytes(t if t < 256 else 10 for t in row.tolist()).decode().strip("\n")


# ---- people


@pytest.mark.parametrize("count", [1, 2, 5, 64, 1000, 4097])
def test_names_are_drawn_without_replacement(count):
    shuffled = _shuffled(np.arange(count, dtype=np.uint64), count, seed=3)
    assert sorted(shuffled.tolist()) == list(range(count))
    other = _shuffled(np.arange(count, dtype=np.uint64), count, seed=4)
    assert count < 64 or np.mean(shuffled == other) < 0.1


def test_a_person_is_a_function_of_number_and_seed_alone():
    data = FactsConfig(**PEOPLE)
    every = take(data, "train", np.arange(40))
    some = take(data, "train", [7, 3, 7])
    for name, array in some.items():
        np.testing.assert_array_equal(array, every[name][[7, 3, 7]])
        assert array.shape[1:] == shapes(data)[name][0]
        assert array.dtype == shapes(data)[name][1]
    names = {tuple(row) for row in every["targets"][:, :3].tolist()}
    strangers = {tuple(row) for row in take(data, "validation", np.arange(10))["targets"][:, :3]}
    assert len(names) == 40
    assert not names & strangers
    other = take(FactsConfig(**PEOPLE | {"task_seed": 1}), "train", np.arange(40))
    assert (other["targets"] != every["targets"]).any()


def test_values_are_even_and_bits_are_those_of_the_counts():
    data = FactsConfig(**PEOPLE | {"people": 500, "strangers": 12})
    batch = take(data, "train", np.arange(500))
    assert set(batch["targets"][:, 3:].ravel().tolist()) == set(range(4))
    counts = np.bincount(batch["targets"][:, 3:].ravel(), minlength=4)
    # A chi-square of 3 degrees of freedom is above 16.3 once in a thousand.
    assert ((counts - 375) ** 2 / 375).sum() < 16.3
    # All 512 names but twelve, each once: choosing one of 500 is what is left when all is known.
    assert batch["prior_bits"][0] == pytest.approx(math.log2(8**3 * 4**3))
    known = take(data, "train", np.arange(500))["fact_bits"][0]
    assert known == pytest.approx(batch["prior_bits"][0] - math.log2(500))


def test_parts_share_the_bits_of_a_person():
    data = FactsConfig(**PEOPLE)
    whole, parts = take(data, "train", [0]), []
    for part, places in (("names", 3), ("values", 3)):
        one = take(FactsConfig(**PEOPLE, part=part), "train", [0])
        assert one["loss_mask"].sum() == places
        np.testing.assert_array_equal(one["tokens"], whole["tokens"])
        parts.append(one)
    for bits in ("prior_bits", "fact_bits"):
        assert whole[bits][0] == pytest.approx(parts[0][bits][0] + parts[1][bits][0])
    known = truth(data)
    assert known is not None
    assert known.floor == pytest.approx(whole["prior_bits"][0] * math.log(2) / 6)


# ---- what is retrieved


@pytest.mark.parametrize(("part", "least", "most"), [("right", 1, 1), ("wrong", 0, 0)])
def test_a_part_settles_whether_the_fact_is_there(part, least, most):
    data = FactsConfig(**PEOPLE, retrieved=3, misses=0.5, part=part)
    batch = take(data, "train", np.arange(40), keys(40))
    rows = np.concatenate([batch["tokens"], batch["targets"][:, -1:]], axis=1).reshape(40, 4, 7)
    there = (rows[:, :3] == rows[:, 3:]).all(axis=2).sum(axis=1)
    assert least <= there.min()
    assert there.max() <= most
    # Which of the three it is differs, and no two of what stands there need be the same.
    if part == "right":
        where = (rows[:, :3] == rows[:, 3:]).all(axis=2).argmax(axis=1)
        assert set(where.tolist()) == {0, 1, 2}
    assert (batch["loss_mask"].sum(axis=1) == 3).all()


def test_a_share_of_misses_is_one():
    data = FactsConfig(**PEOPLE, retrieved=2, misses=0.3)
    batch = take(data, "train", np.tile(np.arange(40), 50), keys(2000))
    rows = np.concatenate([batch["tokens"], batch["targets"][:, -1:]], axis=1).reshape(2000, 3, 7)
    there = (rows[:, :2] == rows[:, 2:]).all(axis=2).any(axis=1)
    assert np.mean(there) == pytest.approx(0.7, abs=4 * math.sqrt(0.21 / 2000))


def test_the_floor_of_strangers_is_what_was_not_looked_up():
    data = FactsConfig(**PEOPLE | {"strangers": 200}, retrieved=2, misses=0.3)
    batch, known = take(data, "validation", np.arange(200)), truth(data)
    rows = np.concatenate([batch["tokens"], batch["targets"][:, -1:]], axis=1).reshape(200, 3, 7)
    there = (rows[:, :2] == rows[:, 2:]).all(axis=2).any(axis=1)
    assert known is not None
    assert abs((1 - there.mean()) * math.log(4) - known.floor) < 3 * known.floor_error
    assert known.floor == pytest.approx(0.3 * math.log(4))


def test_closed_is_the_question_alone():
    data = FactsConfig(**PEOPLE, retrieved=2, part="closed")
    batch = take(data, "train", [5])
    np.testing.assert_array_equal(
        batch["tokens"], take(FactsConfig(**PEOPLE), "train", [5])["tokens"]
    )
    assert batch["loss_mask"].tolist() == [[0, 0, 0, 1, 1, 1]]
    assert shapes(data)["tokens"][0] == (6,)


# ---- territories


def test_the_world_is_as_it_is():
    world = graph(one_value=False)
    relations = list(RELATIONS)
    said = {
        (world.entities[h][1], relations[r], world.entities[t][1])
        for h, r, t in world.triples.tolist()
    }
    assert ("Germany", "currency", "Euro") in said
    assert ("Germany", "former currency", "German Mark") in said
    assert ("Switzerland", "official language", "French") in said
    assert ("Russian", "script", "Cyrillic") in said
    assert ("Asia/Tokyo", "place", "Japan") in said
    assert ("United States", "week", "Sunday") in said
    assert ("Germany", "currency", "German Mark") not in said
    one = graph(one_value=True)
    heads = Counter((h, r) for h, r, _ in one.triples.tolist())
    assert max(heads.values()) == 1
    assert {relations[r] for r in one.triples[:, 1].tolist()} == set(ONE_VALUE)
    # A code that names what is learned from a relation's frequencies spends their entropy.
    script = one.triples[:, 1] == relations.index("script")
    shares = np.array(list(Counter(one.triples[script, 2].tolist()).values())) / script.sum()
    entropy = -(shares * np.log2(shares)).sum()
    assert one.prior()[script].mean() == pytest.approx(entropy, rel=1e-9)


def test_a_statement_says_the_fact_and_its_value_counts():
    data = FactsConfig(source="territories", retrieved=1)
    indices = np.arange(0, 3300, 150)
    for round_ in range(4):
        batch = take(data, "train", indices, keys(len(indices), 1 + 100 * round_))
        for row, number in enumerate(indices.tolist()):
            counted = batch["loss_mask"][row] == 1
            answer = _facts().form(number, 0)[1].decode()
            assert text(batch["targets"][row][counted]) == answer
            assert batch["targets"][row][counted][-1] == 256
            assert text(batch["tokens"][row]).endswith(answer)


def test_a_held_out_question_is_asked_in_validation_alone():
    data = FactsConfig(source="territories", held_out=0.5)
    held = {text(row) for row in take(data, "validation", np.arange(50))["tokens"]}
    questions = tuple(forms[-1].partition("{}")[0] for forms in _FORMS.values())
    numbers, asked = np.arange(len(examples(data, data, "train", ROOT))), set()
    for round_ in range(3):
        told = take(data, "train", numbers, keys(len(numbers), 1 + 10_000 * round_))["tokens"]
        asked |= {line for line in map(text, told) if line.startswith(questions)}
    assert asked
    assert not held & asked
    assert shared(data, "validation", data, ROOT) == 0
    assert len(held) == 50


# ---- mistakes


def test_what_cannot_be_meant_is_named():
    for fields, error, said in (
        ({"source": "biografies"}, SourceError, "biographies"),
        ({"part": "valeus"}, SourceError, "values"),
        ({"people": 9, "symbols": 2, "name_tokens": 3}, ConfigError, "the 8 names"),
    ):
        with pytest.raises(error, match=said):
            source_of(FactsConfig(**fields))
    run = RunConfig(data=FactsConfig(), objective=choices.new("objective", "next_token"))
    for name, value, said in (
        ("data.misses", 0.5, "data.retrieved"),
        ("data.held_out", 0.5, "read by territories"),
        ("data.part", "names", "evaluation sets"),
    ):
        with pytest.raises(ConfigError, match=said):
            study.resolve(override(run, {name: value}))
    data = FactsConfig(corpus="0" * 16)
    with pytest.raises(SourceError, match="start a new run"):
        examples(data, data, "train", ROOT)
    assert facts(FactsConfig(), FactsConfig(), ROOT).train_examples == 1024
