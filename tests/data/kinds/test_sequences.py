"""Sequences of known law: rows by number, and what is said to be true of them, reckoned anew."""

import dataclasses
import itertools
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaling import data
from scaling.config import RunConfig, choices, contracts, override
from scaling.data import runs
from scaling.data.kinds.sequences import (
    TASKS,
    SequencesConfig,
    examples,
    facts,
    shapes,
    shared,
    task_of,
    truth,
)
from scaling.data.kinds.sequences.chains import Markov, _chain, _hidden
from scaling.data.kinds.sequences.memory import Associations
from scaling.errors import ConfigError, DataError, SourceError
from scaling.studies import study

ROOT = Path("/nowhere")  # nothing is read or written
SMALL: dict[str, dict[str, Any]] = {
    "associations": {"zipf": 2.0},
    "dyck": {"symbols": 3},
    "modular": {"symbols": 7, "length": 32},
    "addition": {"symbols": 10},
}


def config(source: str, **fields: Any) -> SequencesConfig:
    given = {"symbols": 5, "length": 6} | SMALL.get(source, {}) | fields
    return SequencesConfig(source=source, **given)


def take(data: SequencesConfig, split: str, indices: Any) -> dict[str, np.ndarray]:
    return examples(data, data, split, ROOT).take(np.asarray(indices))


@pytest.fixture(params=TASKS)
def one(request) -> SequencesConfig:
    return config(request.param)


# ---- every task


def test_any_order_and_any_batch_give_the_same_rows(one: SequencesConfig):
    count = min(20, facts(one, one, ROOT).validation_examples)
    for split in ("train", "validation", "all"):
        whole = take(one, split, np.arange(count))
        order = np.random.default_rng(1).permutation(count)
        for part in (order[:1], order[1:8], order):
            for name, rows in take(one, split, part).items():
                np.testing.assert_array_equal(rows, whole[name][part], err_msg=name)


def test_a_row_is_what_is_declared(one: SequencesConfig):
    rows = take(one, "train", np.arange(4))
    found = {name: (x.shape[1:], str(x.dtype)) for name, x in rows.items()}
    assert found == shapes(one)
    vocab = facts(one, one, ROOT).sizes["vocab"]
    for name in ("tokens", "targets"):
        assert rows[name].min() >= 0
        assert rows[name].max() < vocab
    assert (rows["loss_mask"].sum(axis=1) > 0).all()
    if one.source != "associations":  # a target is the next token
        np.testing.assert_array_equal(rows["tokens"][:, 1:], rows["targets"][:, :-1])


def test_what_decides_the_rows_is_in_their_hash(one: SequencesConfig):
    hashes = {facts(one, one, ROOT).content_hash}
    for fields in ({"task_seed": 1}, {"symbols": one.symbols + 2}):
        other = dataclasses.replace(one, **fields)
        hashes.add(facts(other, other, ROOT).content_hash)
        assert (
            (take(other, "train", np.arange(8))["targets"]).tolist()
            != (take(one, "train", np.arange(8))["targets"]).tolist()
        )
    assert len(hashes) == 3


def test_splits_are_apart_and_two_processes_agree(one: SequencesConfig):
    found = examples(one, one, "train", ROOT)
    moved = pickle.loads(pickle.dumps(found))
    many = np.arange(20)
    np.testing.assert_array_equal(found.take(many)["tokens"], moved.take(many)["tokens"])
    assert found.take(many)["tokens"].tolist() != take(one, "validation", many)["tokens"].tolist()
    assert shared(one, "validation", one, ROOT) == 0 < shared(one, "all", one, ROOT)


def test_a_row_of_another_length_is_longer(one: SequencesConfig):
    if one.source == "modular":
        pytest.skip("of one length")
    twice = dataclasses.replace(one, part="x2")
    assert twice.units_per_example > 1.8 * one.units_per_example
    assert facts(twice, one, ROOT).content_hash != facts(one, one, ROOT).content_hash
    assert take(twice, "validation", [0])["tokens"].shape == (1, twice.units_per_example)


# ---- chains: the entropy of what is drawn


@pytest.mark.parametrize("order", [1, 2])
def test_the_floor_of_a_chain_is_its_entropy(order: int):
    """By the stationary distribution of the chain of pairs, an eigenvector of its transitions."""
    source = Markov(4, order, 1.0, 1.0, 7, 3)
    pairs, given = _chain(source)
    first = pairs / pairs.sum(axis=1, keepdims=True)
    given = given if order == 2 else np.tile(first, (4, 1))  # row a * 4 + b: after a, b
    moves = np.zeros((16, 16))
    for a, b, c in itertools.product(range(4), repeat=3):
        moves[a * 4 + b, b * 4 + c] = given[a * 4 + b, c]
    values, vectors = np.linalg.eig(moves.T)
    stationary = np.real(vectors[:, np.argmax(values.real)])
    stationary /= stationary.sum()
    rate = -(stationary[:, None] * given * np.log(given)).sum()
    one = -(stationary.reshape(4, 4) * np.log(first)).sum()
    expected = (one + 6 * rate) / 7 if order == 2 else rate
    floor = source.truth().floor
    assert math.isclose(floor, expected, rel_tol=1e-9)
    # The marginal is Zipf's.
    marginal = stationary.reshape(4, 4).sum(axis=1)
    np.testing.assert_allclose(marginal * np.arange(1, 5), marginal[0], rtol=1e-9)


@pytest.mark.parametrize("order", [1, 2])
def test_rows_are_drawn_from_the_chain(order: int):
    """Their surprise under its transitions is the floor, to within 4 standard errors."""
    one = config("markov", order=order, symbols=4, length=16, zipf=1.0)
    rows = take(one, "train", np.arange(4000))
    stream = np.concatenate([rows["tokens"], rows["targets"][:, -1:]], axis=1)
    pairs, given = _chain(task_of(one))
    first = pairs / pairs.sum(axis=1, keepdims=True)
    nats = -np.log(first[stream[:, :-1], stream[:, 1:]])
    if order == 2:
        nats[:, 1:] = -np.log(given[stream[:, :-2] * 4 + stream[:, 1:-1], stream[:, 2:]])
    of_row = nats.mean(axis=1)
    assert abs(of_row.mean() - truth(one).floor) < 4 * of_row.std() / math.sqrt(len(of_row))


def test_the_floor_of_a_hidden_chain_is_its_entropy():
    """Against the entropy of all 3^5 rows, each row's probability a sum over all 2^5 paths."""
    one = config("hidden_markov", symbols=3, states=2, length=4)
    moves, emissions = _hidden(task_of(one))
    start, emitted = emissions.sum(axis=1), emissions / emissions.sum(axis=1, keepdims=True)

    def entropy(length: int) -> float:
        total = 0.0
        for row in itertools.product(range(3), repeat=length):
            p = sum(
                start[path[0]]
                * math.prod(moves[a, b] for a, b in itertools.pairwise(path))
                * math.prod(emitted[s, y] for s, y in zip(path, row, strict=True))
                for path in itertools.product(range(2), repeat=length)
            )
            total -= p * math.log(p)
        return total

    found = truth(one)
    assert abs(found.floor - (entropy(5) - entropy(1)) / 4) < 4 * found.floor_error
    assert 0 < found.floor_error < 0.01


def test_hidden_rows_have_zipfs_marginals():
    one = config("hidden_markov", symbols=4, length=8)
    counts = np.bincount(take(one, "train", np.arange(8000))["tokens"][:, 0], minlength=4)
    expected = 8000 / np.arange(1, 5) / (1 / np.arange(1, 5)).sum()
    assert ((counts - expected) ** 2 / expected).sum() < 16.3  # 3 degrees of freedom, p = 0.001


@pytest.mark.parametrize("concentration", [0.2, 1.0])
def test_a_rows_own_chain_is_foretold_by_its_counts_and_no_better(concentration: float):
    """The surprise of fresh rows under the rule of the floor is the floor, within 4 standard
    errors; under that of another concentration it is more.
    """
    one = config("own_chains", symbols=4, length=24, concentration=concentration)
    rows = take(one, "train", np.arange(3000))

    def surprise(prior: float) -> np.ndarray:
        seen, nats = np.full((3000, 4, 4), prior), np.zeros(3000)
        for t in range(24):
            at = np.arange(3000), rows["tokens"][:, t]
            after = (*at, rows["targets"][:, t])
            nats -= np.log(seen[after] / seen[at].sum(axis=1))
            seen[after] += 1
        return nats / 24

    found, right = truth(one), surprise(concentration)
    assert abs(right.mean() - found.floor) < 4 * right.std() / math.sqrt(3000)
    assert surprise(3 * concentration).mean() > right.mean() + 0.005
    assert 0 < found.floor_error < 0.01


# ---- associations, brackets, answers


def test_what_was_never_seen_is_guessed():
    """A table of what was seen, tested: as wrong as is said, and with the exponent that is said."""
    one = config("associations", symbols=512, answers=4, length=8)
    task = task_of(one)
    assert isinstance(task, Associations)
    tested = take(one, "validation", np.arange(2000))
    np.testing.assert_array_equal(tested["targets"], task.answer_of[tested["tokens"]])
    for seed in range(3):
        other = dataclasses.replace(one, task_seed=seed)
        seen = np.unique(take(other, "train", np.arange(16))["tokens"])
        known = np.isin(take(other, "validation", np.arange(2000))["tokens"], seen)
        assert abs((1 - known.mean()) * 3 / 4 - task.wrong(128)) < 0.05
    large = Associations(2**20, 4, 2.0, 1, 0)
    slope = math.log(large.wrong(1e3) / large.wrong(1e4)) / math.log(10)
    assert math.isclose(slope, large.truth().exponents["unique"], abs_tol=1e-3)


def test_words_of_brackets_are_even():
    one = config("dyck", symbols=2, length=3)
    rows = take(one, "train", np.arange(8000))
    words, counts = np.unique(rows["targets"], axis=0, return_counts=True)
    balanced = [w for w in itertools.product(range(4), repeat=6) if _balanced(w, 2)]
    assert sorted(map(tuple, words.tolist())) == sorted(balanced)
    expected = 8000 / len(balanced)
    assert ((counts - expected) ** 2 / expected).sum() < 73.4  # 39 degrees, p = 0.001
    assert math.isclose(truth(one).floor, math.log(len(balanced)) / 6, rel_tol=1e-12)


def _balanced(word: tuple[int, ...], kinds: int) -> bool:
    stack: list[int] = []
    for bracket in word:
        if bracket < kinds:
            stack.append(bracket)
        elif not stack or stack.pop() != bracket - kinds:
            return False
    return not stack


RIGHT = {"copy": list, "reverse": lambda p: p[::-1], "sort": sorted}


@pytest.mark.parametrize("source", ["copy", "reverse", "sort", "addition"])
@pytest.mark.parametrize("part", [None, "x2"])
def test_answers_are_right_and_they_alone_count(source: str, part: str | None):
    one = config(source, part=part, symbols=10)
    lengths = set()
    for tokens, targets, counts in _rows(take(one, "validation", np.arange(300))):
        stream = [*tokens, targets[-1]]
        equals = stream.index(10)
        prompt, rest = stream[:equals], stream[equals + 1 :]
        if source == "addition":
            size = (equals - 1) // 2
            assert prompt[size] == 12
            first, second = prompt[:size], prompt[size + 1 :]
            total = sum(int("".join(map(str, digits[::-1]))) for digits in (first, second))
            right = [int(digit) for digit in str(total).zfill(size + 1)[::-1]]
        else:
            size, right = equals, RIGHT[source](prompt)
        lengths.add(size)
        assert rest[: len(right) + 1] == [*right, 11]
        assert set(rest[len(right) :]) == {11}
        assert [i for i, c in enumerate(counts) if c] == [*range(equals, equals + len(right) + 1)]
    assert lengths == ({12} if part else {1, 2, 3, 4, 5, 6})


def _rows(rows: dict[str, np.ndarray]) -> Any:
    names = ("tokens", "targets", "loss_mask")
    return zip(*(rows[name].tolist() for name in names), strict=True)


def test_every_sum_is_in_one_split():
    one = config("modular", train_share=0.3)
    known = facts(one, one, ROOT)
    assert (known.train_examples, known.validation_examples) == (15, 34)
    rows = take(one, "all", np.arange(49))
    a, b = rows["tokens"][:, 0], rows["tokens"][:, 1]
    assert len({*zip(a.tolist(), b.tolist(), strict=True)}) == 49
    np.testing.assert_array_equal(rows["targets"][:, 2], (a + b) % 7)
    np.testing.assert_array_equal(rows["loss_mask"], np.tile([0.0, 0.0, 1.0], (49, 1)))


# ---- data without an end, as runs read them


def resolved(**fields: Any) -> RunConfig:
    names = {"model": "transformer", "data": "sequences", "objective": "next_token"}
    base = RunConfig(**{group: choices.new(group, name) for group, name in names.items()})
    small = {"model.width": 8, "model.heads": 2, "train.steps": 6, "train.batch_size": 4}
    return study.resolve(override(base, small | {"data.length": 4} | fields))


def test_data_without_an_end_are_drawn_by_seed_and_step_alone(monkeypatch):
    def sorts(*_: Any) -> None:
        raise AssertionError("an order of 2^60 examples was asked for")

    monkeypatch.setattr("scaling.data.batches.permutation", sorts)
    monkeypatch.setattr(runs, "permutation", sorts)
    first, other = (data.train_batches(resolved(seed=seed)) for seed in (0, 1))
    assert (first.num_examples, first.epoch(10**6)) == (contracts.ENDLESS, 0)
    late = first.batch(10**9)["tokens"]
    np.testing.assert_array_equal(late[1:3], first.batch(10**9, slice(1, 3))["tokens"])
    assert late.tolist() != other.batch(10**9)["tokens"].tolist()
    streamed = dict(first.stream(3, 5))
    np.testing.assert_array_equal(streamed[4]["tokens"], first.batch(4)["tokens"])
    met = np.concatenate([first.batch(step)["tokens"] for step in range(6)])
    seen = data.eval_batches(resolved(**{"evals.sets.seen": {"split": "train"}}), "seen")
    np.testing.assert_array_equal(seen.batch(0)["tokens"][:24], met)
    # A subset has an end, is nested, and is met again and again.
    monkeypatch.undo()
    small, large = (
        data.train_batches(resolved(**{"data.unique_symbols": n})).selection for n in (32, 64)
    )
    assert large.tolist() == [*range(16)]
    assert small.tolist() == large[:8].tolist()


def test_what_cannot_be_meant_is_refused():
    for fields, error, said in (
        ({"train.steps": None, "train.epochs": 2.0}, ConfigError, "has no end"),
        ({"data.source": "marcov"}, DataError, 'did you mean "markov"|markov'),
        ({"data.part": "x2"}, ConfigError, "data.part=x2"),
        ({"data.states": 3}, ConfigError, "data.states=3 has no effect"),
        ({"evals.sets.long": {"part": "twice"}}, DataError, "evals.sets.long.part"),
    ):
        with pytest.raises(error, match=said):
            resolved(**fields)
    one = dataclasses.replace(config("markov"), corpus="another")
    with pytest.raises(SourceError, match="another is wanted"):
        examples(one, one, "train", ROOT)
