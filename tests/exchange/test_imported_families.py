"""Models of each family that others have, brought in: they are evaluated, tabled, trained on, and
go out as they came, their tokenizers with them.
"""

import dataclasses
import json
import pathlib

import models
import numpy as np
import pytest
import vocabularies

from scaling.config import RunConfig, base_config, from_dict
from scaling.errors import UserError
from scaling.exchange import inward, outward, tensors
from scaling.families import beside_weights, exchanged
from scaling.optim import subtree
from scaling.records import RunDirectory, tables
from scaling.studies import study
from scaling.train.loop import train
from scaling.train.opened import newest

HERE = pathlib.Path(__file__)
DIGITS = {"height": 8, "image_width": 8, "channels": 1, "classes": 10}
# Of those of `models.py`, what the data here have otherwise.
FIELDS = {
    **{"bert_tokens": {"depth": 1}, "t5": {"depth": 1, "encoder_depth": 1}},
    "bert_label": {"depth": 1, "classes": 2, "places": 64},
    **{"vit": DIGITS | {"depth": 1}, "resnet": DIGITS | {"stages": "2"}},
}
# Whose tokenizer a model has, and the names of its labels, in another order than sorted.
CUTTERS = {"bert_tokens": "bert_tokens", "bert_label": "bert_tokens", "t5": "t5"}
LABELS = {"bert_label": ["en", "de"]}
COUNTER = "resnet.embedder.embedder.normalization.num_batches_tracked"


def base(name: str) -> RunConfig:
    """A run of its family, on this file or on digits."""
    config = base_config(*models.base_of(name))
    if name in LABELS:
        config.data.source = "names:de-en"
        config.data.seq_len = 48
    elif "source" in config.data and config.data.kind != "images":
        config.data.source = f"text:{HERE.parent}/*.py"
        config.data.seq_len = models.LENGTH
    config.train.batch_size = 8
    config.evals.batches = 1
    config.evals.batch_size = 8
    return from_dict(config)


def folder_of(path: pathlib.Path, name: str) -> pathlib.Path:
    """Their model, random, and a counter that is no weight."""
    path.mkdir()
    config = models.run_of(models.MODELS[name] | FIELDS[name], models.base_of(name), DIGITS)
    table = exchanged.nearest(models.tables(name), config.model).of(config.model)
    theirs = exchanged.to_theirs(table, models.random_leaves(config))
    outward.write(config, table, theirs, path, "float32")
    if name in CUTTERS:
        cutter = CUTTERS[name]
        said = json.loads((path / "config.json").read_text()) | vocabularies.SAID[cutter]
        said |= beside_weights.labels(LABELS[name]) if name in LABELS else {}
        (path / "config.json").write_text(json.dumps(said))
        (path / "tokenizer.json").write_text(vocabularies.made(cutter).to_str())
        (path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 512}))
    if name == "resnet":
        dtypes = dict.fromkeys(theirs, "float32") | {COUNTER: "int64"}
        tensors.write(path, theirs | {COUNTER: np.array(7)}, dtypes)
    return path


OFTEN, ELSE = pytest.mark.slow, pytest.mark.exhaustive


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=OFTEN if n == "t5" else ELSE) for n in FIELDS]
)
def test_a_model_of_theirs_is_a_run(name, tmp_path):
    source = folder_of(tmp_path / "model", name)
    run, outcome = inward.bring(source, tmp_path / "out", base(name), lambda c: c)
    assert outcome.status == "done"
    config = run.config()
    tuned = dataclasses.replace(
        base(name),
        model=config.model,
        data=config.data,
        objective=config.objective,
        begins=dataclasses.replace(config.begins, run=str(run.path)),
        train=dataclasses.replace(config.train, steps=1),
    )
    resolved = study.resolve(tuned)
    assert train(resolved, tmp_path / "out", quiet=True).status == "done"
    rows = tables.table(tmp_path / "out")
    assert len(rows) == 2
    assert np.isfinite(rows["loss"]).all()
    before, after = (
        {path: np.asarray(leaf) for path, leaf in subtree.leaves(newest(one).used)}
        for one in (run, RunDirectory.open(resolved, tmp_path / "out"))
    )
    same = {path for path, leaf in before.items() if np.array_equal(leaf, after[path])}
    assert same == {path for path in before if path.endswith(("/mean", "/variance"))}
    if name in CUTTERS:
        there = RunDirectory.open(resolved, tmp_path / "out")
        out = outward.transformers(there, tmp_path / "tuned")
        for file in ("tokenizer.json", "tokenizer_config.json"):
            assert (out / file).read_bytes() == (source / file).read_bytes()
        ends = ("bos_token_id", "eos_token_id", "decoder_start_token_id", "vocab_size", "id2label")
        given, said = (json.loads((at / "config.json").read_text()) for at in (source, out))
        assert all(said[key] == given[key] for key in ends if given.get(key) is not None)
    again = tensors.read(outward.transformers(run, tmp_path / "again"))
    came = tensors.read(source)
    assert again.keys() == came.keys()
    assert all(np.array_equal(again[n], came[n]) and again[n].dtype == came[n].dtype for n in came)


@pytest.mark.parametrize("file", ["vocab.txt", "spiece.model"])
def test_tokenizers_in_another_form_are_named(file, tmp_path):
    source = folder_of(tmp_path / "model", "bert_tokens")
    (source / "tokenizer.json").unlink()
    (source / file).write_text("")
    with pytest.raises(UserError, match=f"has {file} and no tokenizer.json.*--notokenizer"):
        inward.bring(source, tmp_path / "out", base("bert_tokens"), lambda c: c)


def test_group_norms_are_none_that_others_have():
    fields = models.MODELS["resnet"] | {"norm": "group"}
    model = models.run_of(fields, models.base_of("resnet")).model
    with pytest.raises(UserError, match=r"model\.norm=group: .*resnet has model\.norm=frozen"):
        exchanged.nearest(models.tables("resnet"), model)
