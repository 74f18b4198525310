"""Against the real transformers, both ways: its models here, ours there. `make test-hf`."""

import itertools
import json
import os
import pathlib
import subprocess
import unicodedata

import models
import numpy as np
import pytest
import vocabularies

from scaling.data.kinds.tagged import KIND as TAGGED
from scaling.data.kinds.tagged import TaggedConfig
from scaling.data.kinds.text import TextConfig
from scaling.data.kinds.text.exchanged import opened
from scaling.data.kinds.text.rows import Rows
from scaling.data.kinds.text.tokenizers import ByteTokenizer
from scaling.exchange import inward, outward, tensors
from scaling.families import beside_weights, exchanged
from scaling.transforms import transform

pytestmark = pytest.mark.hf
HERE = pathlib.Path(__file__).parent
THEIRS = (*models.MODELS, "llama_tied", "llama_bfloat16")
# Sums of float32 in another order, of logits that are near 10.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def _run(what: str, folder: pathlib.Path) -> None:
    python = os.environ.get("HF")
    assert python, "set HF to the Python of an environment with transformers, as make test-hf does"
    # Nothing is fetched: the models are made and read here.
    env = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        [python, str(HERE / "theirs.py"), what, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )
    assert done.returncode == 0, done.stderr


def _folder(path: pathlib.Path, name: str) -> pathlib.Path:
    """Of a model, with what it is to read."""
    (path / name).mkdir()
    np.savez(path / name / "batch.npz", **models.batch_of(name))
    return path / name


def _equal(outputs: dict[str, np.ndarray], folder: pathlib.Path) -> None:
    theirs = np.load(folder / "outputs.npz")
    assert set(theirs) == outputs.keys()
    for name, ours in outputs.items():
        np.testing.assert_allclose(ours, theirs[name], **CLOSE, err_msg=name)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    for name in THEIRS:
        _folder(folder, name)
    _run("make", folder)
    return folder


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Random models of ours, as transformers reads them."""
    folder = tmp_path_factory.mktemp("read")
    for name in models.MODELS:
        table, config = models.table(name), models.named(name)
        outward.write(config, table, models.theirs_of(name), _folder(folder, name), "float32")
    _run("read", folder)
    return folder


@pytest.mark.parametrize("name", THEIRS)
def test_their_model_here(name, made):
    source = made / name
    given = json.loads((source / "config.json").read_text())
    weights = tensors.read(source)
    _, table = inward.described(given, weights)
    assert table.name == given["model_type"]
    config = models.run_of(exchanged.read(table, given, weights), models.base_of(name))
    table = table.of(config.model)
    leaves = exchanged.to_ours(
        table, weights, {path: leaf.shape for path, leaf in transform.leaves(config).items()}
    )
    _equal(models.outputs_of(config, leaves, models.batch_of(name)), source)
    # And back, bit for bit.
    back = exchanged.to_theirs(table, leaves)
    assert all(np.array_equal(back[n].astype(weights[n].dtype), weights[n]) for n in back)
    assert all(name.endswith(table.ignored) for name in weights.keys() - back.keys())


@pytest.mark.parametrize("name", models.MODELS)
def test_our_model_there(name, read):
    leaves = models.random_leaves(models.named(name))
    _equal(models.outputs_of(models.named(name), leaves, models.batch_of(name)), read / name)


@pytest.mark.parametrize("name", vocabularies.MADE)
def test_their_tokenizer_here(name, made, tmp_path):
    files = beside_weights.tokenizer_files(made / name)
    given = json.loads((made / name / "config.json").read_text()) | vocabularies.SAID[name]
    data = inward.adopted(TextConfig(), given, files, tmp_path)
    own = opened(data.tokenizer_file, tmp_path)
    expected = json.loads((made / name / "ids.json").read_text())
    texts = vocabularies.texts()
    ids = [own.encode(text) for text in texts]
    assert ids == expected["file"]
    # Its class of T5 has another form of a file's normalizer: none.
    plain = [name != "t5" or unicodedata.is_normalized("NFKC", text) for text in texts]
    assert sum(plain) > len(texts) - 10
    assert list(itertools.compress(ids, plain)) == list(itertools.compress(expected["kind"], plain))
    assert own.exported()[0] == files["tokenizer.json"]
    found = own.separator, own.begins, beside_weights.mask_token(files)
    assert found == {"bert_tokens": (2, 2, 4), "t5": (1, 0, None)}[name]


@pytest.mark.parametrize("name", vocabularies.MADE)
def test_rows_of_texts_are_theirs(name, made, tmp_path):
    """What stands around a text or two, what is cut off, and the first token of each word."""
    given = json.loads((made / name / "config.json").read_text()) | vocabularies.SAID[name]
    files = beside_weights.tokenizer_files(made / name)
    source = tmp_path / "words.jsonl"
    said, texts = json.loads((made / name / "rows.json").read_text()), vocabularies.texts()
    distinct = dict.fromkeys(map(tuple, said["words"]))
    lines = [json.dumps({"words": list(row), "tags": ["x"] * len(row)}) for row in distinct]
    source.write_text("\n".join(lines))
    data = TaggedConfig(source=f"lines:{source}", seq_len=256)  # all of each
    data = inward.adopted(data, given, files, tmp_path)
    own = opened(data.tokenizer_file, tmp_path)
    whole, cut = Rows(own, 10**6), Rows(own, vocabularies.ROOM)
    assert [whole.row(text.encode()).tokens.tolist() for text in texts] == said["alone"]
    both = zip(texts[::7], texts[1::7], strict=False)
    rows = [cut.row(one[:8].encode(), two.encode()) for one, two in both]
    assert [row.tokens.tolist() for row in rows] == said["pairs"]
    assert [row.types.tolist() for row in rows] == said["types"]
    examples = TAGGED.examples(data, data, "all", tmp_path)
    batch = examples.take(np.arange(len(examples)))
    numbers = {tuple(row): ids for row, ids in zip(said["words"], said["word_ids"], strict=True)}
    for i, ids in enumerate(map(numbers.get, distinct)):
        firsts = [at for at, n in enumerate(ids) if n is not None and n not in ids[:at]]
        assert batch["tag_mask"][i].nonzero()[0].tolist() == firsts


def test_our_bytes_there(read):
    tokens = ByteTokenizer()
    text = "def f(x):\n    return 'é' # "
    expected = [tokens.separator, *tokens.encode(text), tokens.separator]
    assert np.load(read / "llama" / "ids.npy").tolist() == expected
