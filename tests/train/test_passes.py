"""Evaluation passes: their numbers are those that plain NumPy makes of the model's outputs."""

import threading

import jax
import numpy as np
import pytest
from reading import lines

from scaling import data
from scaling.config import RunConfig, base_config, fingerprint, from_dict, override
from scaling.devices import meshes
from scaling.errors import ConfigError
from scaling.families.decoding import GREEDY
from scaling.families.encoder_decoder.translate import translate
from scaling.families.lstm.generate import generate
from scaling.objectives.next_token.cross_entropy import logits
from scaling.records import RunDirectory
from scaling.records.tables import columns, table
from scaling.studies import study
from scaling.train import passes as passes_lib
from scaling.train import state as state_lib
from scaling.train.loop import train
from scaling.train.opened import newest
from scaling.train.packed import train_packed

SETS = {
    "evals.sets.probe": {"by": "features", "fit_batches": 5},
    "evals.sets.free": {"by": "features", "fit_batches": 100, "ridge": 0.0},
}
SHORT = {
    "train.steps": 6,
    "train.batch_size": 16,
    "evals.at_start": True,
    "evals.every": 3,
    "evals.batch_size": 16,
    "evals.batches": 3,
}
MLP = {"model.width": 16, "model.depth": 1, "train.checkpoint_every": 2}
VECTORS = {
    "data.features": 12,
    "data.targets": 2,
    "data.examples": 128,
    "data.validation_examples": 40,
    "data.noise": 0.1,
}


def of(family: str, kind: str, objective: str, fields: dict) -> RunConfig:
    base = from_dict(base_config(family=family, data=kind, objective=objective))
    return study.resolve(override(override(base, SHORT | SETS), fields))


def vectors(fields: dict | None = None, family: str = "mlp") -> RunConfig:
    return of(family, "vectors", "regression", MLP | VECTORS | (fields or {}))


def digits(fields: dict | None = None, family: str = "mlp") -> RunConfig:
    return of(family, "images", "classification", MLP | (fields or {}))


def trained(config: RunConfig, workdir, devices: int = 1) -> list[dict]:
    assert train(config, workdir, devices=jax.devices()[:devices], quiet=True).status == "done"
    return lines(RunDirectory.open(config, workdir))


def of_set(found: list[dict], name: str) -> list[dict]:
    return [line for line in found if line["split"] == name]


def close(found: list[dict], wanted: list[dict]) -> None:
    """Floats to 1e-4: other programs add up in another order, and Adam is not smooth at 0."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            same = pytest.approx(other[key], rel=1e-4, abs=1e-5) if key != "split" else other[key]
            assert value == same, (key, one["split"])


# ---- a linear probe


def features_and(config: RunConfig, batches: data.Batches, field: str) -> list[np.ndarray]:
    """(features of the untrained model, field) of the examples that count."""
    pieces, mesh = state_lib.parts(config), meshes.make_mesh(config.mesh, jax.devices()[:1])
    params = state_lib.init(pieces, config, state_lib.layout(pieces, config, mesh)).params
    apply = jax.jit(lambda batch: pieces.model.apply({"params": params}, batch)["features"])
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for step in range(len(batches)):
        batch = batches.batch(step)
        there = batch["weight"] > 0
        found.append((np.asarray(apply(batch), np.float64)[there], batch[field][there]))
    return [np.concatenate(column) for column in zip(*found, strict=True)]


def ridge_fit(x: np.ndarray, y: np.ndarray, ridge: float) -> np.ndarray:
    """[1 + F, T] by least squares of rows, those of the penalty appended."""
    l2 = ridge * x.var(axis=0).mean()
    centred = x - x.mean(axis=0)
    rows = np.concatenate([centred, np.sqrt(l2 * len(x)) * np.eye(x.shape[1])])
    wanted = np.concatenate([y - y.mean(axis=0), np.zeros((x.shape[1], y.shape[1]))])
    w = np.linalg.lstsq(rows, wanted, rcond=1e-6)[0]
    return np.concatenate([(y.mean(axis=0) - x.mean(axis=0) @ w)[None], w])


@pytest.mark.parametrize("name", ["probe", "free"])
def test_a_probe_of_targets_is_the_least_squares_of_gathered_features(tmp_path, name):
    config = vectors()
    (line, *_) = of_set(trained(config, tmp_path), name)
    assert line["step"] == 0
    x, y = features_and(config, data.probe_batches(config, name), "targets")
    assert len(x) == (80 if name == "probe" else 128)  # 5 batches of 16, or all there is
    w = ridge_fit(x, y.astype(np.float64), config.evals.sets[name].ridge)
    x, y = features_and(config, data.eval_batches(config, name), "targets")
    assert line["rows"] == len(x) == 40
    error = ((w[0] + x @ w[1:] - y) ** 2).sum(axis=1)
    around = ((y - y.mean(axis=0)) ** 2).sum()
    # Features and sums are float32.
    assert line["probe_error"] == pytest.approx(error.mean(), rel=1e-4)
    assert line["probe_error_se"] == pytest.approx(error.std(ddof=1) / np.sqrt(40), rel=1e-4)
    assert line["probe_r_squared"] == pytest.approx(1 - error.sum() / around, rel=1e-4)
    assert "loss" not in line


@pytest.mark.slow
def test_a_probe_of_labels_too_and_training_makes_the_features_better(tmp_path):
    fields = {"train.steps": 24, "evals.every": 24, "optim.peak_lr": 1e-2, "evals.batches": 8}
    config = digits(fields | {"model.width": 4, "evals.sets.probe": {}}, family="resnet")
    start, end = of_set(trained(config, tmp_path), "free")
    x, label = features_and(config, data.probe_batches(config, "free"), "label")
    w = ridge_fit(x, np.eye(10)[label], 0.0)
    x, label = features_and(config, data.eval_batches(config, "free"), "label")
    right = (w[0] + x @ w[1:]).argmax(axis=1) == label
    # One close call may fall to the other side.
    assert abs(start["probe_accuracy"] - right.mean()) <= 1 / len(x) + 1e-6
    assert start["probe_accuracy"] > 0.2  # chance is 0.1
    assert end["probe_accuracy"] > start["probe_accuracy"] + 2 * start["probe_accuracy_se"]


def test_features_that_are_not_trained_keep_their_probe(tmp_path):
    found = trained(vectors(family="random_features"), tmp_path)
    probes = [line["probe_error"] for line in of_set(found, "free")]
    assert len(probes) == 3
    np.testing.assert_allclose(probes, probes[0], rtol=1e-6)
    losses = [line["loss"] for line in of_set(found, "val")]
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.slow
@pytest.mark.parametrize("make", [vectors, digits])
def test_meshes_agree(tmp_path, make):
    wanted = trained(make(), tmp_path / "one")
    found = trained(make({"mesh.fsdp": 2}), tmp_path / "eight", devices=8)
    # On digits a probe's argmax may turn on a close call: compared to one row of 48.
    for name in ("probe", "free"):
        for one, other in zip(of_set(found, name), of_set(wanted, name), strict=True):
            if "probe_accuracy" in one:
                assert abs(one["probe_accuracy"] - other["probe_accuracy"]) <= 1 / 48 + 1e-6
            else:
                close([one], [other])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["loop", "vmap"])
def test_packed_is_alone(tmp_path, form):
    """Members with subsets of their own have probes of their own."""
    fields: list[dict] = [{}, {"seed": 1, "data.unique_examples": 32}, {"optim.peak_lr": 1e-3}]
    configs = [vectors(one) for one in fields]
    outcomes = train_packed(
        configs, tmp_path / "packed", devices=jax.devices()[:1], quiet=True, form=form
    )
    assert [getattr(o, "status", o) for o in outcomes] == ["done"] * 3
    errors = set()
    for config in configs:
        found = lines(RunDirectory.open(config, tmp_path / "packed"))
        close(found, trained(config, tmp_path / "alone"))
        errors.add(of_set(found, "free")[-1]["probe_error"])
    assert len(errors) == 3


def test_stopped_and_continued_is_uninterrupted(tmp_path):
    config, stop = vectors(), threading.Event()
    stop.set()
    one = jax.devices()[:1]
    assert train(config, tmp_path / "cut", devices=one, stop=stop, quiet=True).status == "stopped"
    assert trained(config, tmp_path / "cut") == trained(config, tmp_path / "whole")


# ---- greedy continuations

CONTINUED = {
    "evals.sets.seen": {"split": "train", "by": "generate"},
    "evals.sets.twice": {"by": "generate", "prompt": 9, "continuation": 7, "copies": True},
    "evals.at_start": True,
}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["transformer", "lstm"])
def test_what_is_memorised_is_continued_exactly_and_what_is_unknown_by_chance(
    tiny, tmp_path, family
):
    """Eight windows of sixteen bytes, each met 150 times: twelve bytes say how one goes on."""
    fields = {"model.family": family, "model.width": 32, "data.unique_tokens": 128}
    fields |= {"train.steps": 150, "train.log_every": 50, "evals.every": None}
    config = tiny(CONTINUED | fields | {"optim.peak_lr": 1e-2, "train.steps_per_call": 10})
    assert (config.evals.sets["seen"].prompt, config.evals.sets["seen"].continuation) == (12, 4)
    found = trained(config, tmp_path)
    start, end = of_set(found, "seen")
    assert (start["step"], start["exact_match"]) == (0, 0.0)
    assert start["token_accuracy"] <= 0.2  # of 257 tokens; of the words' letters some come often
    # Two of them begin alike, of which one can be right.
    begin = data.eval_batches(config, "seen").batch(0)["tokens"][:, :12]
    known = len({tuple(row) for row in begin.tolist()})
    assert end["rows"] == 8 > known == 7
    assert end["exact_match"] == known / 8
    assert end["token_accuracy"] == 1 - 1 / 32
    frame = table(tmp_path)
    assert frame["exact_match/seen"][0] == known / 8
    assert "loss/seen" not in frame


def test_a_continuation_is_compared_within_one_document():
    tokens, ones = np.arange(1, 9)[None].repeat(3, axis=0), np.ones((3, 8))
    segments = np.array([[1] * 8, [1] * 5 + [2] * 3, [1] * 7 + [2]])
    batch = {"tokens": tokens, "loss_mask": ones, "segment_ids": segments}
    batch["loss_mask"][0, 0] = 0
    whole = passes_lib.Program("continuations", 0, 4, 3)
    text, weight = passes_lib._text(batch, whole)
    np.testing.assert_array_equal(text, tokens[:, :7])
    assert weight.tolist() == [0, 0, 1]
    twice = passes_lib.Program("continuations", 0, 5, 3, copies=True)
    text, weight = passes_lib._text(batch, twice)
    np.testing.assert_array_equal(text[0], [1, 2, 3, 4, 1, 2, 3, 4])
    assert weight.tolist() == [0, 1, 1]


@pytest.mark.exhaustive
def test_continuations_on_meshes_and_in_groups(tiny, tmp_path):
    """Greedy choices turn on no rounding here: every mesh and form gives the same ones."""
    fields = {"evals.sets.twice": CONTINUED["evals.sets.twice"], "evals.every": None}
    fields |= {"train.steps": 2, "evals.batches": 1}
    config = tiny(fields)
    wanted = trained(config, tmp_path / "one")
    for mesh in ({"mesh.fsdp": 2}, {"mesh.tensor": 2}):
        close(trained(tiny(fields | mesh), tmp_path / str(mesh), devices=8), wanted)
    for form in ("loop", "vmap"):
        configs, workdir = [config, tiny(fields | {"seed": 1})], tmp_path / form
        outcomes = train_packed(configs, workdir, devices=jax.devices()[:1], quiet=True, form=form)
        assert [getattr(o, "status", o) for o in outcomes] == ["done"] * 2
        close(lines(RunDirectory.open(config, workdir)), wanted)


def test_an_lstm_continues_as_its_full_forward_pass_says(tiny):
    config = tiny({"model.family": "lstm", "model.depth": 2})
    pieces, mesh = state_lib.parts(config), meshes.make_mesh(config.mesh, jax.devices()[:1])
    params = state_lib.init(pieces, config, state_lib.layout(pieces, config, mesh)).params
    prompt = jax.random.randint(jax.random.key(0), (3, 5), 0, 250)
    tokens = generate(config.model, params, prompt, 6, jax.random.key(0), GREEDY)
    outputs = jax.jit(pieces.model.apply)({"params": params}, {"tokens": tokens})
    best = logits(outputs)[:, 4:-1].argmax(axis=-1)
    np.testing.assert_array_equal(tokens[:, 5:], best)
    np.testing.assert_array_equal(tokens[:, :5], prompt)


@pytest.mark.parametrize(
    ("one", "said"),
    [
        ({"prompt": 5}, r"more.prompt=5 changes nothing without evals.sets.more.by=generate"),
        ({"copies": True}, r"more.copies=True changes nothing"),
        ({"by": "generate", "ridge": 0.1}, r"more.ridge=0.1 changes nothing without .*features"),
        ({"by": "generate", "prompt": 16}, r"together not exceed a window of 16 tokens"),
        ({"by": "generate", "prompt": 12, "continuation": 5}, r"not exceed a window of 16"),
        ({"by": "generate", "prompt": 0}, r"more.prompt=0 must be at least 1"),
        ({"by": "generate", "prompt": 8, "continuation": 8, "copies": True}, r"one text twice"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(tiny, one, said):
    with pytest.raises(ConfigError, match=said):
        tiny({"evals.sets.more": one})


def test_vectors_are_not_continued():
    with pytest.raises(ConfigError, match=r"family=mlp does not continue sequences"):
        vectors({"evals.sets.more": {"by": "generate"}})


# ---- what is written, and what is refused


def test_columns_of_a_table_are_those_of_each_sets_pass(tmp_path):
    config = vectors()
    found = trained(config, tmp_path)
    frame = table(tmp_path)
    probe = [c for c in frame if c.endswith("/probe")]
    names = ["probe_error", "probe_error_se", "probe_r_squared", "probe_r_squared_se"]
    assert probe == [f"{name}/probe" for name in names]
    assert {*probe} <= {*columns([config])}
    assert frame["probe_error/probe"][0] == of_set(found, "probe")[-1]["probe_error"]
    assert frame["loss"][0] == of_set(found, "val")[-1]["loss"]


def test_a_pass_is_part_of_what_a_run_is():
    names = [
        fingerprint(vectors(fields))
        for fields in (
            {},
            {"evals.sets.probe": {"by": "features", "fit_batches": 6}},
            {"evals.sets.probe": {"by": "features", "fit_batches": 5, "ridge": 1.0}},
            {"evals.at_start": False},
        )
    ]
    assert len(set(names)) == 4


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"evals.sets.more": {"ridge": 0.5}}, "more.ridge=0.5 changes nothing without .*features"),
        ({"evals.sets.more": {"fit_batches": 3}}, "more.fit_batches=3 changes nothing"),
        ({"evals.sets.probe.fit_batches": 0}, "probe.fit_batches=0 must be at least 1"),
        ({"evals.sets.probe.ridge": -1.0}, "probe.ridge=-1.0 must not be negative"),
        ({"evals.sets.val.by": "features"}, 'the set "val" is evaluated by rows'),
        ({"evals.sets.probe.by": "feature"}, 'evals.sets.probe.by=.*mean "features"'),
    ],
)
def test_what_nothing_reads_is_refused(fields, said):
    with pytest.raises(ConfigError, match=said):
        vectors(fields)


def test_text_has_no_label_to_probe(tiny):
    with pytest.raises(ConfigError, match=r"features, not given by .*=transformer"):
        tiny({"evals.sets.probe": {"by": "features"}})


# ---- translations


@pytest.mark.slow
def test_translations_are_judged_as_whole_texts(tmp_path):
    """By the texts that the model writes of every pair of the set, greedily."""
    base = from_dict(base_config(family="encoder_decoder", data="pairs"))
    sets = {
        "evals.sets.texts": {"by": "generate"},
        "evals.sets.beams": {"by": "generate", "beams": 2},
    }
    model = {"model.width": 16, "model.depth": 1, "model.heads": 1, "optim.peak_lr": 1e-2}
    source = {"data.source": "names:en-en", "data.part": "scripts", "train.steps": 30}
    config = study.resolve(override(base, SHORT | sets | model | source | {"evals.every": None}))
    found = trained(config, tmp_path)
    (line, *_) = of_set(found, "texts")[-1:]
    opened = newest(RunDirectory.open(config, tmp_path))
    batches, wrote, wanted = data.eval_batches(config, "texts"), [], []
    for step in range(len(batches)):
        batch = batches.batch(step)
        arrays = batch["source"], batch["source_segments"]
        tokens, _ = translate(config.model, opened.used, *arrays, config.data.target_len, 256)
        there = batch["loss_mask"].any(axis=1)
        for texts, rows in ((wrote, np.asarray(tokens)), (wanted, batch["targets"])):
            texts += [[*row, 256][: [*row, 256].index(256)] for row in rows[there].tolist()]
    assert len(wanted) == line["rows"] == 21
    pairs = list(zip(wrote, wanted, strict=True))
    assert line["exact_match"] == np.mean([a == b for a, b in pairs])
    right = sum(x == y for a, b in pairs for x, y in zip(a, b, strict=False))
    assert line["token_accuracy"] == pytest.approx(right / sum(map(len, wanted)))
    assert 0 < line["token_accuracy"] < 1
    assert {"chrf", "bleu", "chrf_se"} <= line.keys()
    beams = of_set(found, "beams")[-1]
    assert beams["rows"] == 21
    assert beams["chrf"] != line["chrf"]
    row = table(tmp_path).iloc[0]
    assert row["exact_match/texts"] == line["exact_match"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"evals.sets.t": {"by": "generate", "prompt": 3}}, r"evals\.sets\.t\.prompt=3"),
        ({"evals.sets.t": {"by": "generate", "copies": True}}, r"evals\.sets\.t\.copies"),
        ({"model.family": "transformer"}, r"data\.kind=pairs is for families that read source"),
    ],
)
def test_what_translations_cannot_do_is_said(fields, says):
    base = from_dict(base_config(family="encoder_decoder", data="pairs"))
    with pytest.raises(ConfigError, match=says):
        study.resolve(override(base, fields))
