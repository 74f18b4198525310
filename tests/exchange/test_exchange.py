"""Models as other programs keep them, without these: round trips change no bit, and what cannot be
is one sentence.
"""

import dataclasses
import json
import math
import pathlib

import models
import numpy as np
import pytest

from scaling.check import parameters
from scaling.config import RunConfig, base_config, from_dict, override
from scaling.costs import sizes
from scaling.data.kinds.text import exchanged as text_exchanged
from scaling.data.kinds.text.tokenizers import BpeTokenizer, ByteTokenizer, train_bpe
from scaling.errors import UserError
from scaling.exchange import inward, outward, tensors
from scaling.families import exchanged
from scaling.families.transformer import rope
from scaling.optim import subtree
from scaling.records import RunDirectory
from scaling.studies import study
from scaling.train import begins
from scaling.train.loop import train
from scaling.train.opened import newest

HERE = pathlib.Path(__file__)


@pytest.mark.parametrize("name", models.MODELS)
def test_a_round_trip_changes_no_bit(name):
    config, table = models.named(name), models.table(name)
    assert exchanged.nearest(models.tables(name), config.model).classes == table.classes
    leaves = models.random_leaves(config)
    assert sizes.size(config).params == sum(leaf.size for leaf in leaves.values())
    theirs = exchanged.to_theirs(table, leaves)
    back = exchanged.to_ours(table, theirs, {path: leaf.shape for path, leaf in leaves.items()})
    assert back.keys() == leaves.keys()
    assert all(np.array_equal(back[path], leaf) for path, leaf in leaves.items())
    said = exchanged.written(table, config.model, models.LENGTH)
    given = json.loads(json.dumps(said))
    assert exchanged.among(models.tables(name), given).classes == table.classes
    again = models.run_of(exchanged.read(table, given), models.base_of(name))
    free = {"scan_layers": True}  # how it is executed is not said
    assert dataclasses.replace(again.model, **free) == dataclasses.replace(config.model, **free)


def test_a_model_that_was_saved_without_a_head_has_the_same_names():
    table, theirs = models.table("gpt2"), models.theirs_of("gpt2")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in theirs.items()}
    assert bare.keys() != theirs.keys() == table.named(bare).keys() == table.named(theirs).keys()


def test_blocks_are_theirs_in_order_and_matrices_turned():
    theirs, leaves = models.theirs_of("mixtral"), models.random_leaves(models.named("mixtral"))
    query = leaves["blocks/attention/query/w"][1]  # [D, H, K]
    found = theirs["model.layers.1.self_attn.q_proj.weight"]
    np.testing.assert_array_equal(found[5], query.reshape(16, 16)[:, 5])
    down = theirs["model.layers.0.block_sparse_moe.experts.2.w2.weight"]
    np.testing.assert_array_equal(down, leaves["blocks/moe/down"][0, 2].T)


def test_frequencies_are_divided_by_how_often_they_turn():
    scaling = models.named("llama_long").model.rope_scaling
    theta, head_dim = 500.0, 64
    by = rope.multipliers(scaling, head_dim, theta)
    turns = 16 * theta ** (-np.arange(32) / 32) / (2 * np.pi)
    np.testing.assert_array_equal(by[turns > 3.0], 1.0)
    np.testing.assert_array_equal(by[turns < 1.5], np.float32(1 / 8))
    between = (turns < 3.0) & (turns > 1.5)
    assert between.sum() >= 3
    # As the code of Llama 3.1 mixes the two, there by wavelengths.
    smooth = (turns[between] - 1.5) / (3.0 - 1.5)
    np.testing.assert_allclose(by[between], (1 - smooth) / 8 + smooth, rtol=1e-6)
    linear = models.named("qwen3_long").model.rope_scaling
    np.testing.assert_array_equal(rope.multipliers(linear, 64, theta), np.float32(1 / 3))


def base() -> RunConfig:
    """On this file."""
    config = base_config()
    config.data.source = f"text:{HERE.parent}/*.py"
    config.data.seq_len = models.LENGTH
    config.train.batch_size = 8
    config.evals.batches = 1
    config.evals.batch_size = 8
    return from_dict(config)


def folder_of(path: pathlib.Path, name: str = "llama", dtype: str = "float32") -> pathlib.Path:
    """A folder with a random model and the tokenizer of bytes."""
    path.mkdir()
    outward.write(models.named(name), models.table(name), models.theirs_of(name), path, dtype)
    return path


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """(the folder, the run that it became), in bfloat16."""
    home = tmp_path_factory.mktemp("imported")
    source = folder_of(home / "model", dtype="bfloat16")
    run, outcome = inward.bring(source, home / "out", base(), lambda config: config)
    assert outcome.status == "done"
    return source, run


def test_an_export_of_an_import_is_what_was_imported(imported, tmp_path):
    source, run = imported
    out = outward.transformers(run, tmp_path / "again")
    names = sorted(path.name for path in source.iterdir())
    assert names == sorted(path.name for path in out.iterdir())
    assert all((out / name).read_bytes() == (source / name).read_bytes() for name in names)


def test_an_imported_run_is_a_run(imported):
    source, run = imported
    config = run.config()
    assert config.data.tokenizer == "imported"
    assert run.is_done
    assert run.latest(["val"])["val"]["loss"] > 0
    used = {path: np.asarray(leaf) for path, leaf in subtree.leaves(newest(run).used)}
    weights = tensors.read(source)
    shapes = {path: leaf.shape for path, leaf in used.items()}
    leaves = exchanged.to_ours(models.table("llama"), weights, shapes)
    assert leaves.keys() == used.keys()
    assert all(np.array_equal(used[path], leaf) for path, leaf in leaves.items())


def test_a_run_is_the_config_of_those_that_begin_with_it(imported):
    source, run = imported
    found = study.load_config(str(run.path))
    again = study.resolve(found)
    assert again == dataclasses.replace(run.config(), imported=None)
    begun = study.resolve(override(found, {"begins.run": str(run.path), "train.steps": 3}))
    assert (begun.model, begun.data) == (run.config().model, run.config().data)
    assert (begun.begins.run, begun.train.steps) == (run.record()["fingerprint"], 3)
    with pytest.raises(UserError, match=f"--config={source}: {source} is no file"):
        study.load_config(str(source))
    planned = study.resolve_planned(override(found, {"optim.peak_lr": 0.5}))
    assert planned.model == run.config().model
    rows = parameters.as_list(planned)
    own = sum(tensor.size for tensor in tensors.read(source).values())
    assert sum(math.prod(row["shape"]) for row in rows) == own
    assert {row["lr"] for row in rows} == {0.5}


@pytest.mark.slow
def test_what_was_imported_is_tuned_and_goes_out_merged(imported, tmp_path):
    _, run = imported
    config = run.config()
    tuned = dataclasses.replace(
        base(),
        model=config.model,
        data=config.data,
        transform=dataclasses.replace(study.choices.new("transform", "lora"), rank=2),
        begins=dataclasses.replace(config.begins, run=str(run.path)),
        train=dataclasses.replace(config.train, steps=2),
        optim=config.optim,
    )
    resolved = study.resolve(tuned)
    assert train(resolved, tmp_path, quiet=True).status == "done"
    there = RunDirectory.open(resolved, tmp_path)
    out = tensors.read(outward.transformers(there, tmp_path / "merged"))
    merged = exchanged.to_theirs(
        models.table("llama"),
        {path: np.asarray(leaf) for path, leaf in subtree.leaves(newest(there).used)},
    )
    assert out.keys() == merged.keys()
    assert all(np.array_equal(out[name], tensor) for name, tensor in merged.items())
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not np.array_equal(out[name], tensors.read(imported[0])[name].astype(np.float32))


def test_tokenizers_give_the_same_tokens_elsewhere(tmp_path):
    text = "def f(x):\n\treturn 'é—π' + str(12345)  # <|separator|>  \r\n\n  end"
    (tmp_path / "bpe").mkdir()
    train_bpe([HERE.read_bytes()], 400, tmp_path / "bpe")
    for i, own in enumerate((ByteTokenizer(), BpeTokenizer(tmp_path / "bpe"))):
        content, _ = own.exported()
        file, ends = {"tokenizer.json": content}, (own.separator, None)
        data = text_exchanged.adopt(base().data, file, ends, tmp_path / str(i))
        theirs = text_exchanged.opened(data.tokenizer_file, tmp_path / str(i))
        assert theirs.encode(text) == own.encode(text)
        assert theirs.decode(own.encode(text)) == text.encode()
        np.testing.assert_array_equal(theirs.token_bytes, own.token_bytes)
        assert (theirs.vocab, theirs.separator) == (own.vocab, own.separator)


def test_weights_of_many_files_are_read_and_written(tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, "_LARGEST", 4000)
    weights = models.theirs_of("qwen2")
    tensors.write(tmp_path, weights, dict.fromkeys(weights, "float32"))
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    found = tensors.read(tmp_path)
    assert found.keys() == weights.keys()
    assert all(np.array_equal(found[name], weights[name]) for name in weights)


def _config(**changes):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def _weights(change):
    def rewrite(folder):
        weights = dict(tensors.read(folder))
        change(weights)
        kept = {name: np.array(tensor) for name, tensor in weights.items()}
        tensors.write(folder, kept, dict.fromkeys(kept, "float32"))

    return rewrite


def _cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def _of_integers(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"'))


def _unsaid(folder):
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"post_processor": None}))
    _config(bos_token_id=None, eos_token_id=None)(folder)


def _of_pieces(folder):
    path = folder / "tokenizer.json"
    text = path.read_text()
    path.write_text(text.replace('"a"', '"\\u2581a"', 1))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json cannot be read"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is no JSON"),
        (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
        (_config(model_type="bloom"), "model_type=bloom is none of the architectures"),
        (_config(hidden_act="relu"), "hidden_act=relu, and models of this code have only"),
        (_config(rope_scaling={"rope_type": "yarn"}), "rope_type=yarn, and rotary positions"),
        (_config(rope_scaling={"rope_type": "linear"}), "rope_type=linear lacks factor"),
        (_config(tokenizer_class="x", model_type="bert", architectures=["BertModel"]), "BertModel"),
        (_config(num_hidden_layers=3), "the weights lack model.layers.2.input_layernorm.weight"),
        (_config(vocab_size=261), "embed_tokens.weight is [260, 16], by config.json [261, 16]"),
        (_config(vocab_size=200), "model.vocab=200, but the tokenizer has 257 tokens"),
        (_config(bos_token_id=300), "bos_token_id or eos_token_id is 300"),
        (_unsaid, "has neither bos_token_id nor"),
        (_weights(lambda w: w.update(more=w["model.norm.weight"])), "no place for the weights"),
        (_cut, "no whole file of safetensors"),
        (_of_integers, "holds numbers of kind I32"),
        (lambda f: (f / "tokenizer.json").write_text("[]"), "tokenizer.json cannot be read"),
        (_of_pieces, "is not spelled in the characters of byte-level BPE"),
    ],
)
def test_what_cannot_be_imported_is_said(spoil, said, tmp_path):
    source = folder_of(tmp_path / "model")
    spoil(source)
    with pytest.raises(UserError) as error:
        inward.bring(source, tmp_path / "out", base(), lambda config: config)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("out/runs/*/config.json"))


def test_what_cannot_be_exported_is_said(imported, tmp_path):
    _, run = imported
    known, base = models.tables("llama"), models.base_of("llama")
    plain = models.run_of(models.MODELS["llama"] | {"mlp": "plain"}, base).model
    with pytest.raises(UserError, match=r"model\.mlp=plain: .*llama has model\.mlp=gated"):
        exchanged.nearest(known, plain)
    one = models.run_of(models.MODELS["mixtral"] | {"moe.per_token": 1}, base).model
    with pytest.raises(UserError, match=r"moe\.per_token=1: .*moe\.per_token=2"):
        exchanged.nearest(known, one)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UserError, match="is there already; name a new folder"):
        outward.transformers(run, tmp_path / "full")
    table = models.table("llama")
    with pytest.raises(UserError, match="llama has no place for blocks/attention/prefix"):
        exchanged.to_theirs(
            table,
            models.random_leaves(models.named("llama"))
            | {"blocks/attention/prefix": np.zeros((2, 3), np.float32)},
        )


def test_an_imported_run_that_is_gone_is_not_trained_anew(imported):
    with pytest.raises(UserError, match="bring them once more"):
        begins.begin(None, imported[1].config(), None, None)
