"""Vectors of known law: examples by number, the moments that the law says, and the theory."""

import dataclasses
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

from scaling.config.contracts import ENDLESS
from scaling.data import draws
from scaling.data.kinds.vectors import KIND, VectorsConfig, examples, facts, resolve, shared
from scaling.data.kinds.vectors.parity import SparseParity
from scaling.data.kinds.vectors.task import PowerLaw
from scaling.data.kinds.vectors.theory import asymptote, expected
from scaling.errors import ConfigError, SourceError

ROOT = Path("/nowhere")  # nothing is read or written
DATA = VectorsConfig(features=33, targets=3, examples=200, validation_examples=50, noise=0.5)


def take(data: VectorsConfig, split: str, indices: np.ndarray) -> dict[str, np.ndarray]:
    return examples(data, data, split, ROOT).take(indices)


def hash_of(**fields: object) -> str:
    data = dataclasses.replace(DATA, **fields)
    return facts(data, data, ROOT).content_hash


# ---- draws


def test_a_number_depends_on_its_key_and_its_position_alone():
    keys = draws.folded(draws.key("test"), np.arange(50))
    whole = draws.normals(keys, 41)
    order = np.random.default_rng(0).permutation(50)
    np.testing.assert_array_equal(draws.normals(keys[order], 41), whole[order])
    np.testing.assert_array_equal(draws.normals(keys, 7), whole[:, :7])
    for row in (0, 49):
        np.testing.assert_array_equal(draws.normals(keys[row : row + 1], 41)[0], whole[row])


def test_normals_are_independent_unit_gaussians():
    keys = draws.folded(draws.key("moments"), np.arange(2000))
    x = draws.normals(keys, 100)
    count = x.size
    # Standard errors of the first four moments of 200,000 numbers, times 4.
    assert abs(x.mean()) < 4 / math.sqrt(count)
    assert abs((x**2).mean() - 1) < 4 * math.sqrt(2 / count)
    assert abs((x**3).mean()) < 4 * math.sqrt(15 / count)
    assert abs((x**4).mean() - 3) < 4 * math.sqrt(96 / count)
    # Correlations of neighbours along rows, along columns, and within the pairs of Box and Muller.
    for a, b in ((x[:, :-1], x[:, 1:]), (x[:-1], x[1:]), (x[:, 0::2], x[:, 1::2])):
        assert abs((a * b).mean()) < 4 / math.sqrt(a.size)
        assert abs(((a**2 - 1) * (b**2 - 1)).mean()) < 8 / math.sqrt(a.size)


def test_whole_numbers_are_even():
    drawn = draws.whole(draws.folded(draws.key("even"), np.arange(7000)), 1, 7)[:, 0]
    counts = np.bincount(drawn, minlength=7)
    assert len(counts) == 7
    assert ((counts - 1000) ** 2 / 1000).sum() < 22.5  # chi-squared of 6 degrees, p = 0.001


# ---- the examples


@pytest.mark.parametrize("split", ["train", "validation", "all"])
def test_any_order_and_any_batch_give_the_same_rows(split: str):
    count = {"train": 200, "validation": 50, "all": 250}[split]
    whole = take(DATA, split, np.arange(count))
    order = np.random.default_rng(1).permutation(count)
    for size in (1, 2, 7, 64):
        for start in range(0, count, size):
            chosen = order[start : start + size]
            for name, rows in take(DATA, split, chosen).items():
                np.testing.assert_array_equal(rows, whole[name][chosen], err_msg=name)


@pytest.mark.parametrize("room", [0, 10, 10**6])
def test_what_is_kept_is_what_was_drawn(room: int, monkeypatch: pytest.MonkeyPatch):
    """Rows of which none, some or all have been seen before, and are changed by who has them."""
    row = 4 * (DATA.features + DATA.targets)
    split, fresh = (examples(DATA, DATA, "train", ROOT) for _ in range(2))
    monkeypatch.setattr("scaling.data.kinds.vectors.task._KEPT", room * row)
    for chosen in (np.arange(20), np.arange(30)[::-1], np.array([3, 3, 40])):
        batch = split.take(chosen)
        fresh._kept.clear()
        for name, rows in fresh.take(chosen).items():
            np.testing.assert_array_equal(batch[name], rows)
        batch["features"][:] = 0
    assert len(split._kept) == min(room, 31)


def test_all_is_validation_then_train():
    everything = take(DATA, "all", np.arange(250))
    for split, rows in (("validation", slice(0, 50)), ("train", slice(50, 250))):
        alone = take(DATA, split, np.arange(rows.stop - rows.start))
        np.testing.assert_array_equal(everything["features"][rows], alone["features"])
        np.testing.assert_array_equal(everything["targets"][rows], alone["targets"])
    assert len(np.unique(everything["features"], axis=0)) == 250


def test_shapes_are_those_that_are_declared():
    batch = take(DATA, "train", np.arange(5))
    assert set(batch) == KIND.fields
    for name, (shape, dtype) in KIND.shapes(DATA).items():
        assert (batch[name].shape, batch[name].dtype.name) == ((5, *shape), dtype)
    assert (batch["weight"] == 1).all()


def test_examples_can_go_to_other_processes():
    split = examples(DATA, DATA, "train", ROOT)
    again = pickle.loads(pickle.dumps(split))
    assert len(pickle.dumps(split)) < 1000  # no array goes along
    np.testing.assert_array_equal(
        again.take(np.array([3]))["targets"], split.take(np.array([3]))["targets"]
    )


def test_the_law_holds_of_the_examples():
    data = dataclasses.replace(DATA, examples=20_000, alpha=0.7)
    batch = take(data, "train", np.arange(20_000))
    task = PowerLaw(33, 3, 0.7, 0.5, 0)
    ratio = batch["features"].astype(np.float64).var(axis=0) / task.variances
    assert np.abs(ratio - 1).max() < 4.5 * math.sqrt(2 / 20_000)  # of 33 variances
    slope = np.log(task.variances[0] / task.variances[9]) / np.log(10)
    assert slope == pytest.approx(1.7, abs=1e-12)
    assert task.variances.sum() == pytest.approx(1, abs=1e-12)
    rest = batch["targets"] - batch["features"] @ task.teacher
    assert np.abs(rest.var(axis=0) / 0.25 - 1).max() < 4 * math.sqrt(2 / 20_000)
    # The noise is drawn apart from the features.
    unit = batch["features"] / np.sqrt(task.variances)
    assert np.abs(unit.T @ rest / 20_000).max() < 4.5 * 0.5 / math.sqrt(20_000)


def test_without_noise_the_targets_are_linear():
    batch = take(dataclasses.replace(DATA, noise=0.0), "train", np.arange(100))
    exact = batch["features"].astype(np.float64) @ PowerLaw(33, 3, 1.0, 0.0, 0).teacher
    # Rounded once, from float64 to float32.
    np.testing.assert_allclose(batch["targets"], exact, rtol=2**-23, atol=1e-12)


def test_a_longer_train_split_and_more_features_keep_what_was_there():
    some = take(DATA, "train", np.arange(50))["features"]
    longer = take(dataclasses.replace(DATA, examples=5000), "train", np.arange(50))["features"]
    np.testing.assert_array_equal(some, longer)
    # Another sum of the variances scales all features of an example, and nothing else.
    wider = take(dataclasses.replace(DATA, features=40), "train", np.arange(50))["features"]
    scale = wider[0, 0] / some[0, 0]
    np.testing.assert_allclose(wider[:, :33], some * scale, rtol=1e-5)  # float32, two roundings


def test_the_hash_names_all_that_decides_the_examples_and_nothing_else():
    changes = {
        "features": 34,
        "targets": 2,
        "alpha": 1.1,
        "noise": 0.4,
        "examples": 201,
        "validation_examples": 51,
        "task_seed": 1,
    }
    hashes = {hash_of(), *(hash_of(**{name: value}) for name, value in changes.items())}
    assert len(hashes) == 1 + len(changes)
    assert hash_of(seed=5, unique_examples=20) == hash_of()
    assert take(dataclasses.replace(DATA, task_seed=1), "train", np.arange(1))["targets"] != (
        pytest.approx(take(DATA, "train", np.arange(1))["targets"])
    )


def test_facts_and_what_is_shared():
    known = facts(DATA, DATA, ROOT)
    assert (known.train_examples, known.validation_examples) == (200, 50)
    assert known.sizes == {"features": 33, "targets": 3}
    assert shared(DATA, "validation", DATA, ROOT) == 0
    assert shared(DATA, "all", DATA, ROOT) == 200
    longer = dataclasses.replace(DATA, examples=300)
    assert shared(longer, "train", DATA, ROOT) == 200
    assert shared(dataclasses.replace(DATA, task_seed=1), "all", DATA, ROOT) == 0


def test_mistakes_name_the_way_out():
    wrong = dataclasses.replace(DATA, source="power_lav")
    with pytest.raises(SourceError, match='did you mean "power_law"'):
        facts(wrong, wrong, ROOT)
    large = dataclasses.replace(DATA, unique_examples=201)
    with pytest.raises(ConfigError, match=r"data.unique_examples=201 .* data.examples=200"):
        resolve(large, facts(large, large, ROOT))


# ---- the theory


def simulated(task: PowerLaw, width: int, count: int, ridge: float, draw: int) -> float:
    """The loss of a ridge solution, its mean over test examples taken exactly, for one draw of
    features, teacher and examples.
    """
    rng = np.random.default_rng([draw, width, count])
    x = rng.standard_normal((count, task.features)) * np.sqrt(task.variances)
    w = rng.standard_normal(task.features)
    y = x @ w + task.noise * rng.standard_normal(count)
    u = rng.standard_normal((task.features, width)) / math.sqrt(width)
    phi = x @ u
    if ridge:
        a = np.linalg.solve(phi.T @ phi + ridge * np.eye(width), phi.T @ y)
    else:
        a = np.linalg.lstsq(phi, y, rcond=None)[0]
    return float((task.variances * (w - u @ a) ** 2).sum() + task.noise**2)


@pytest.mark.parametrize(
    ("features", "width", "count", "noise", "ridge", "alpha"),
    [
        (150, 20, 80, 0.0, 0.0, 1.0),  # the model is the bottleneck
        (150, 80, 20, 0.0, 0.0, 1.0),  # the data are
        (150, 20, 80, 0.3, 0.0, 1.0),
        (150, 80, 20, 0.3, 0.0, 1.0),
        (150, 30, 90, 0.3, 0.0, 0.5),
        (150, 40, 40, 0.3, 0.05, 1.0),  # where there is no finite loss without ridge
        (150, 90, 30, 0.1, 0.2, 0.5),
        (20, 30, 80, 0.3, 0.0, 1.0),  # more than there are latent features: all is learned
    ],
)
def test_the_theory_against_least_squares(
    features: int, width: int, count: int, noise: float, ridge: float, alpha: float
):
    task = PowerLaw(features, 1, alpha, noise, 0)
    losses = np.array([simulated(task, width, count, ridge, draw) for draw in range(300)])
    error = losses.std() / math.sqrt(len(losses))
    theory = expected(task.variances, width, count, noise, ridge).loss
    # Sizes are finite: of Gaussian least squares T / (T - N - 1) is exact where T / (T - N) is the
    # limit, and in the other regime likewise.
    size = min(width, task.features)
    finite = 0.0 if ridge else 2 / abs(count - size)
    finite = finite or 2 / min(width, count)
    assert abs(losses.mean() - theory) < 4 * error + finite * theory
    assert error < 0.06 * theory  # the comparison says something


def test_width_and_examples_are_dual_without_noise():
    variances = PowerLaw(500, 1, 0.8, 0.0, 0).variances
    ours, other = expected(variances, 30, 100), expected(variances, 100, 30)
    assert ours.loss == pytest.approx(other.loss, rel=1e-9)
    assert ours.loss == pytest.approx(ours.kappa * 30 / (1 - 0.3), rel=1e-9)
    assert ours.learned == pytest.approx(30, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.5])
def test_the_exponent_is_that_of_the_variances(alpha: float):
    variances = PowerLaw(300_000, 1, alpha, 0.0, 0).variances
    scale, exponent = asymptote(variances, alpha)
    widths = np.array([250, 500])
    losses = np.array([expected(variances, int(n), math.inf).loss for n in widths])
    slope = -np.diff(np.log(losses)) / np.diff(np.log(widths))
    # The integral in place of the sum is off by about 1/2 of N; what lies past M by (N / M)^alpha.
    past = (500 / 300_000) ** alpha
    assert slope[0] == pytest.approx(exponent, abs=0.005 + 2 * past)
    assert losses[1] == pytest.approx(scale * 500**-exponent, rel=0.01 + 4 * past)


def test_limits_of_the_theory():
    variances = PowerLaw(60, 1, 1.0, 0.0, 0).variances
    # Nothing is learned of no example; the noise stays with endless ones.
    assert expected(variances, 30, 1, ridge=1e9).loss == pytest.approx(1, abs=1e-6)
    assert expected(variances, 100, math.inf, noise=0.2).loss == pytest.approx(0.04, rel=1e-9)
    assert math.isinf(expected(variances, 30, 30, noise=0.1).loss)
    # Least squares in as many dimensions as there are latent features.
    assert expected(variances, 100, 200, noise=0.2).loss == pytest.approx(0.04 / (1 - 0.3))
    assert expected(variances, 100, 200).loss == 0
    # A little ridge is no ridge.
    none, little = (expected(variances, 20, 50, 0.1, ridge) for ridge in (0.0, 1e-9))
    assert little.loss == pytest.approx(none.loss, rel=1e-5)


# ---- parities, and data without an end


PARITY = VectorsConfig(source="sparse_parity", features=40, tasks=5, bits=3, validation_examples=50)


def test_a_target_is_the_parity_of_its_tasks_bits():
    task = SparseParity(40, 5, 3, 1.0, 0)
    x, y = task.draw("train", np.arange(6000))
    assert {*np.unique(x)} == {0.0, 1.0}
    asked, bits = x[:, :5], x[:, 5:]
    assert (asked.sum(axis=1) == 1).all()
    for number, subset in enumerate(task.subsets):
        assert len({*subset.tolist()}) == 3
        rows = asked[:, number] == 1
        np.testing.assert_array_equal(y[rows, 0], 1 - 2 * (bits[rows][:, subset].sum(axis=1) % 2))
    counts, expected = asked.sum(axis=0), 6000 * task.frequencies
    assert ((counts - expected) ** 2 / expected).sum() < 18.5  # 4 degrees, p = 0.001
    assert np.allclose(task.frequencies * np.arange(1, 6) ** 2, task.frequencies[0])
    assert abs(bits.mean() - 0.5) < 4 * 0.5 / math.sqrt(bits.size)
    assert abs(y.mean()) < 4 / math.sqrt(len(y))


def test_a_parity_is_what_its_key_says():
    whole = take(PARITY, "train", np.arange(30))
    for name, rows in take(PARITY, "train", np.array([7, 3])).items():
        np.testing.assert_array_equal(rows, whole[name][[7, 3]])
    known = facts(PARITY, PARITY, ROOT)
    assert known.content_hash != facts(DATA, DATA, ROOT).content_hash
    assert known.sizes == {"features": 40, "targets": 1}
    for wrong in ({"features": 7}, {"targets": 2}, {"noise": 0.1}):
        with pytest.raises(ConfigError):
            resolve(dataclasses.replace(PARITY, **wrong), known)


def test_a_split_without_an_end_keeps_nothing():
    endless = dataclasses.replace(DATA, examples=None)
    found = examples(endless, endless, "train", ROOT)
    far = np.array([10**17, 5, 10**17])
    rows = found.take(far)["features"]
    np.testing.assert_array_equal(rows[0], rows[2])
    np.testing.assert_array_equal(rows[1], take(DATA, "train", np.array([5]))["features"][0])
    assert not found._kept
    assert len(found) == facts(endless, endless, ROOT).train_examples == ENDLESS
    assert shared(endless, "all", endless, ROOT) == ENDLESS


def test_what_is_true_of_the_task_is_what_its_theory_has():
    """Of least squares: the slopes of the loss of `theory.expected` between large sizes."""
    variances, alpha = PowerLaw(2**14, 1, 1.5, 0.0, 0).variances, 1.5
    said = PowerLaw(2**14, 3, alpha, 0.5, 0).truth()
    assert said.floor == 3 * 0.25
    assert said.exponents["amount"] == alpha / (1 + alpha)
    for name in ("width", "unique"):
        first, second = (
            expected(variances, *((n, math.inf) if name == "width" else (10 * n, n))).loss
            for n in (64, 128)
        )
        # Of a cut spectrum the slope is a little less, and comes near it with the size.
        assert 0 < said.exponents[name] - math.log2(first / second) < 0.03
