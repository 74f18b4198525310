"""`batch(step)` is a pure function, its order is nested and reshuffled, its contents are right."""

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from scaling import data
from scaling.data.batches import _Groups
from scaling.data.kinds.text import TextConfig
from scaling.data.kinds.text.corpus import prepare
from scaling.data.kinds.text.windows import Windows
from scaling.data.order import permutation
from scaling.errors import ConfigError, DataError

SEPARATOR = 256


def assert_same(one: data.Batch, other: data.Batch) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def windows_of(batches: data.Batches, steps: range) -> np.ndarray:
    """Indices of the windows of some steps: the rows of the token stream that match."""
    windows = batches.examples
    everything = windows.take(np.arange(len(windows)))["tokens"]
    index = {row.tobytes(): i for i, row in enumerate(everything)}
    assert len(index) == len(windows)  # all windows differ, so that the lookup means something
    return np.array([index[row.tobytes()] for s in steps for row in batches.batch(s)["tokens"]])


# ---- purity


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_rows_of_hosts_join_to_the_batch(resolved, root: Path, hosts: int) -> None:
    batches = data.train_batches(resolved(), root)
    share = batches.batch_size // hosts
    for step in (0, 7, 500):
        parts = [batches.batch(step, slice(h * share, (h + 1) * share)) for h in range(hosts)]
        joined = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
        assert_same(joined, batches.batch(step))


@pytest.mark.parametrize(("workers", "prefetch"), [(0, 0), (0, 3), (2, 2)])
def test_stream_is_the_batches_however_it_is_fed(resolved, root, workers, prefetch) -> None:
    batches = data.train_batches(resolved(), root)
    stream = batches.stream(5, 17, rows=slice(2, 6), workers=workers, prefetch=prefetch)
    for expected, (step, batch) in itertools.zip_longest(range(5, 17), stream):
        assert step == expected
        assert_same(batch, batches.batch(step, slice(2, 6)))


def test_stream_resumed_is_the_stream_uninterrupted(resolved, root) -> None:
    whole = list(data.train_batches(resolved(), root).stream(0, 20))
    first = data.train_batches(resolved(), root).stream(0, 20)
    before = list(itertools.islice(first, 9))
    first.close()
    after = list(data.train_batches(resolved(), root).stream(9, 20))
    for (step, batch), (expected_step, expected) in zip(before + after, whole, strict=True):
        assert step == expected_step
        assert_same(batch, expected)


def test_grouped_stream_stacks_the_steps(resolved, root) -> None:
    batches = data.train_batches(resolved(), root)
    # Groups of 4 that stop at multiples of 6, as checkpoints would have it.
    items = list(batches.stream(1, 15, group=lambda s: min(4, 6 - s % 6)))
    assert [step for step, _ in items] == [1, 5, 6, 10, 12]
    for (step, item), stop in zip(items, [5, 6, 10, 12, 15], strict=True):
        assert item["tokens"].shape == (stop - step, 8, 32)
        for i in range(stop - step):
            assert_same({n: a[i] for n, a in item.items()}, batches.batch(step + i))


@given(
    start=st.integers(0, 30),
    length=st.integers(0, 40),
    period=st.integers(1, 9),
    most=st.integers(1, 6),
    order=st.randoms(use_true_random=False),
)
def test_groups_are_found_in_any_order(start, length, period, most, order) -> None:
    def group(step: int) -> int:
        return min(most, period - step % period)

    stop, wanted = start + length, []
    while not wanted or wanted[-1][0] < stop:
        step = sum(wanted[-1]) if wanted else start
        wanted.append((step, min(group(step), stop - step) if step < stop else 0))
    groups = _Groups(start, stop, group)
    assert len(groups) == length >= len(wanted) - 1
    asked = [*range(len(wanted)), *(order.randrange(len(wanted)) for _ in range(20))]
    assert [groups[i] for i in asked] == [wanted[i] for i in asked]


@pytest.mark.parametrize(
    ("workers", "group"), [(0, None), (0, 5), pytest.param(2, 5, marks=pytest.mark.slow)]
)
def test_a_stream_takes_no_memory_for_the_steps_to_come(resolved, root, workers, group) -> None:
    """2e7 steps, of which a hundred are read; with the list of them it took 1.6 GB."""
    batches = data.train_batches(resolved(**{"train.steps": 20_000_000}), root)
    tracemalloc.start()
    stream = batches.stream(
        0, 20_000_000, workers=workers, group=None if group is None else lambda step: group
    )
    steps = [step for step, _ in itertools.islice(stream, 100)]
    stream.close()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert steps == list(range(0, 100 * (group or 1), group or 1))
    assert peak < 10e6


def test_permutation_is_pinned() -> None:
    # A corpus prepared elsewhere, or by a later NumPy, must train in the same order.
    assert permutation(10, ("epoch", 3, 1)).tolist() == [2, 1, 8, 5, 3, 0, 4, 7, 9, 6]


def test_the_windows_of_a_run_are_pinned(resolved, root) -> None:
    """What a run of a seed reads at a step must never move: finished runs are compared by it."""
    batches = data.train_batches(resolved(seed=3, **{"data.unique_tokens": 40 * 32}), root)
    wanted = {
        0: [1849, 566, 503, 1428, 356, 455, 1495, 483],
        4: [1256, 502, 1204, 788, 145, 509, 55, 1356],
        5: [653, 145, 788, 870, 1438, 55, 1642, 1552],  # the second epoch
        38: [1256, 145, 455, 1435, 448, 653, 1428, 1204],
    }
    assert {step: windows_of(batches, range(step, step + 1)).tolist() for step in wanted} == wanted


# ---- order


def test_an_epoch_is_a_permutation_and_the_next_another(resolved, root) -> None:
    batches = data.train_batches(resolved(**{"data.unique_tokens": 40 * 32}), root)
    assert batches.num_examples == 40
    epochs = [windows_of(batches, range(5 * e, 5 * e + 5)) for e in range(4)]
    assert [batches.epoch(s) for s in (0, 4, 5, 19)] == [0, 0, 1, 3]
    for epoch in epochs:
        assert set(epoch) == set(batches.selection)
        assert len(set(epoch)) == len(epoch) == 40
    for one, other in itertools.combinations(epochs, 2):
        assert (one != other).any()


def test_batches_run_over_the_end_of_an_epoch(resolved, root) -> None:
    batches = data.train_batches(resolved(**{"data.unique_tokens": 11 * 32}), root)
    seen = windows_of(batches, range(11))  # 8 epochs in 11 batches of 8
    for epoch in seen.reshape(8, 11):
        assert set(epoch) == set(batches.selection)


def test_subsets_nest_whatever_the_seed(resolved, root) -> None:
    previous: set[int] = set()
    for seed, windows in enumerate([8, 16, 33, 64, 128]):
        tokens = windows * 32 + seed  # not a multiple of the window: rounded down
        config = resolved(**{"data.unique_tokens": tokens, "seed": seed})
        selection = set(data.train_batches(config, root).selection.tolist())
        assert previous < selection
        assert len(selection) == windows
        previous = selection
    assert previous < set(data.train_batches(resolved(), root).selection.tolist())


def test_a_subset_is_drawn_anew_by_its_own_seed(resolved, root) -> None:
    def drawn(**overrides: int) -> set[int]:
        config = resolved(**{"data.unique_tokens": 64 * 32}, **overrides)
        examples, subset = data.training_set(config, root)
        assert len(subset) == 64
        assert subset.tolist() == data.train_batches(config, root).selection.tolist()
        assert max(subset) < len(examples)
        return set(subset.tolist())

    usual = drawn()
    one, other = drawn(**{"train.subset_seed": 0}), drawn(**{"train.subset_seed": 1, "seed": 3})
    assert usual != one != other
    assert one == drawn(**{"train.subset_seed": 0, "seed": 5})
    # Of data that are read whole there is nothing to draw.
    with pytest.raises(ConfigError, match=r"train\.subset_seed"):
        resolved(**{"train.subset_seed": 0})


def test_seed_orders_the_data_and_data_seed_overrules_it(resolved, root) -> None:
    def first(**overrides: int) -> np.ndarray:
        return data.train_batches(resolved(**overrides), root).batch(0)["tokens"]

    assert (first(seed=0) != first(seed=1)).any()
    np.testing.assert_array_equal(
        first(**{"seed": 0, "data.seed": 5}), first(**{"seed": 1, "data.seed": 5})
    )


# ---- contents


def test_windows_predict_every_token_once(config: TextConfig, root: Path) -> None:
    corpus = prepare(config, config, root)
    for split, length in itertools.product(("train", "validation", "all"), (1, 7, 32)):
        windows, stream = Windows(corpus, split, length, True), corpus.tokens(split)
        batch = windows.take(np.arange(len(windows)))
        left_out = len(stream) - 1 - len(windows) * length
        assert 0 <= left_out < length
        np.testing.assert_array_equal(batch["tokens"].ravel(), stream[: len(windows) * length])
        np.testing.assert_array_equal(
            batch["targets"].ravel(), stream[1 : 1 + len(windows) * length]
        )
        assert (batch["loss_mask"] == 1).all()


@given(
    texts=st.lists(
        st.binary(max_size=30).map(lambda raw: b"=" + raw.replace(b"\0", b"-")),
        min_size=4,
        max_size=30,
        unique=True,
    ),
    seq_len=st.integers(2, 24),
    mask=st.booleans(),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_positions_segments_and_bytes(tmp_path_factory, texts, seq_len, mask) -> None:
    folder = tmp_path_factory.mktemp("documents")
    for i, text in enumerate(texts):
        (folder / f"{i}.txt").write_bytes(text)
    config = TextConfig(source=f"text:{folder}/*.txt", validation_fraction=0.5)
    corpus = prepare(config, TextConfig(), folder / "root")  # not trained on: documents stay whole
    windows = Windows(corpus, "all", seq_len, mask)
    assume(len(windows))
    batch = windows.take(np.arange(len(windows)))
    assert ("segment_ids" in batch) == mask
    for row in range(len(windows)):
        segment, position = 1, -1
        for column in range(seq_len):
            begins = mask and column > 0 and batch["tokens"][row, column] == SEPARATOR
            segment, position = segment + begins, 0 if begins else position + 1
            if mask:
                assert batch["segment_ids"][row, column] == segment
            assert batch["positions"][row, column] == position
            separates = batch["targets"][row, column] == SEPARATOR
            assert batch["target_bytes"][row, column] == (0 if separates else 1)
    documents = bytes(t if t != SEPARATOR else 0 for t in corpus.tokens("all").tolist())
    assert len(documents) == sum(map(len, texts)) + len(texts)


def test_documents_come_back_from_the_stream(config: TextConfig, files: Path, root: Path) -> None:
    corpus = prepare(config, config, root)
    wanted = {path.read_bytes() for path in files.iterdir()} - {b""}
    found: list[bytes] = []
    for split in ("train", "validation"):
        stream = corpus.tokens(split)
        assert stream[0] == SEPARATOR
        starts = np.flatnonzero(stream == SEPARATOR)
        found += [bytes(part[1:].tolist()) for part in np.split(stream, starts[1:])]
    assert len(found) == len(wanted)
    assert set(found) == wanted


# ---- evaluation


def test_evaluation_is_one_pass_without_repeats(resolved, root) -> None:
    batches = data.eval_batches(resolved(**{"evals.batches": 1000}), "val", root)
    assert len(batches) == -(-batches.num_examples // 8)
    assert batches.num_examples % 8  # so that the last batch is a partial one
    assert batches.num_examples == len(batches.examples)
    everything = [batches.batch(s) for s in range(len(batches))]
    counts = np.concatenate([b["loss_mask"][:, 0] for b in everything])
    assert counts.tolist() == [1.0] * batches.num_examples + [0.0] * (-batches.num_examples % 8)
    rows = np.concatenate([b["tokens"] for b in everything])[counts == 1]
    assert len({row.tobytes() for row in rows}) == batches.num_examples
    assert not everything[-1]["target_bytes"][everything[-1]["loss_mask"] == 0].any()
    separators = sum((b["targets"][b["loss_mask"] == 1] == SEPARATOR).sum() for b in everything)
    total = sum(int(b["target_bytes"].sum()) for b in everything)
    assert total == batches.num_examples * 32 - separators


def test_evaluation_is_the_same_for_every_seed_and_nests(resolved, root) -> None:
    one = data.eval_batches(resolved(**{"seed": 1, "evals.batches": 2}), "val", root)
    more = data.eval_batches(resolved(**{"seed": 2, "evals.batches": 4}), "val", root)
    assert (len(one), len(more)) == (2, 4)
    for step in range(2):
        assert_same(one.batch(step), more.batch(step))


@pytest.mark.parametrize(("steps", "unique"), [(40, 64 * 32), (6, None), (1, 64 * 32)])
def test_held_in_set_is_what_the_run_trains_on(resolved, root, steps, unique) -> None:
    fields = {"train.steps": steps, "data.unique_tokens": unique, "evals.batches": 4}
    config = resolved(**fields, **{"evals.sets.held_in": {"split": "train"}})
    train = data.train_batches(config, root)
    held_in = data.eval_batches(config, "held_in", root)
    trained = set(windows_of(train, range(steps)).tolist())
    assert set(held_in.selection.tolist()) <= trained
    assert held_in.num_examples == min(4 * 8, len(trained)) == len(set(held_in.selection.tolist()))


def test_other_source_is_evaluated_whole(resolved, root, tmp_path) -> None:
    (tmp_path / "other.txt").write_bytes(b"something else entirely, " * 40)
    other = {"source": f"text:{tmp_path}/*.txt", "split": "all"}
    batches = data.eval_batches(resolved(**{"evals.sets.other": other}), "other", root)
    assert batches.num_examples * 32 == 1000 // 32 * 32


def test_evaluation_refuses_what_is_trained_on(resolved, root, files) -> None:
    shared = {"source": f"text:{files}/00[0-4]*.txt", "split": "all"}
    config = resolved(**{"evals.sets.leak": shared})
    with pytest.raises(DataError, match=r"evals\.sets\.leak\.split=all: \d+ of its examples are"):
        data.eval_batches(config, "leak", root)
    safe = resolved(**{"evals.sets.leak": shared | {"split": "validation"}})
    assert len(data.eval_batches(safe, "leak", root))
