"""The three sources on real files: standard library, local text, prepared TFDS datasets."""

import importlib.util
import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from scaling import data
from scaling.data.kinds.text import TextConfig
from scaling.data.kinds.text.corpus import prepare
from scaling.data.kinds.text.corpus import tokenizer as tokenizer_of
from scaling.data.kinds.text.documents import documents
from scaling.data.kinds.text.sources import open_source
from scaling.errors import DataError


def texts_of(source: str, part: str | None, root: Path) -> dict[str, bytes]:
    return {d.name: d.text for d in open_source(source, part, root).documents()}


def test_tensorflow_is_not_here() -> None:
    assert importlib.util.find_spec("tensorflow") is None
    assert "tensorflow" not in sys.modules


def test_unknown_prefix_names_the_nearest(root: Path) -> None:
    with pytest.raises(DataError, match=r'unknown prefix "stdlb" \(did you mean "stdlib"\?\)'):
        data.describe(TextConfig(source="stdlb"), root=root)


# ---- stdlib


@pytest.fixture(scope="module")
def library(root: Path) -> dict[str, bytes]:
    return texts_of("stdlib", None, root)


def test_code_is_the_library_without_its_tests(library: dict[str, bytes]) -> None:
    home = Path(sysconfig.get_paths()["stdlib"])
    for name in ("argparse.py", "json/decoder.py", "asyncio/tasks.py", "unittest/case.py"):
        assert library[name] == (home / name).read_bytes()
    parts = {part for name in library for part in Path(name).parts[:-1]}
    assert not parts & {"test", "tests", "idle_test", "site-packages", "pydoc_data", "__pycache__"}
    assert all(name.endswith(".py") for name in library)
    assert sum(map(len, library.values())) > 8e6


def test_stdlib_is_kept_in_array_records(library: dict[str, bytes], root: Path) -> None:
    (folder,) = root.glob("tfds/python-*/python_stdlib/*.*.*")
    assert folder.name == ".".join(map(str, sys.version_info[:3]))
    builder = tfds.builder_from_directory(folder)
    assert builder.info.file_format.value == "array_record"
    assert set(builder.info.splits) == {"code", "docs"}
    assert builder.info.splits["code"].num_examples == len(library)


def test_docs_are_prose_and_no_code(library: dict[str, bytes], root: Path) -> None:
    docs = texts_of("stdlib", "docs", root)
    assert (
        b"A function definition defines a user-defined function object" in docs["topics/function"]
    )
    assert not set(docs.values()) & set(library.values())


def test_stdlib_is_described_fast_by_a_new_process(root: Path) -> None:
    facts = data.describe(TextConfig(), root=root)
    assert facts.train_examples * 256 > 7_000_000
    assert facts.validation_examples * 256 > 100_000
    code = """
import pathlib, sys, time
from scaling import data
from scaling.data.kinds.text import TextConfig
start = time.perf_counter()
facts = data.describe(TextConfig(), root=pathlib.Path(sys.argv[1]))
print(facts.content_hash, time.perf_counter() - start, "tensorflow_datasets" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(root)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    content_hash, seconds, imported = out.split()
    assert content_hash == facts.content_hash
    assert imported == "False"
    assert float(seconds) < 1  # 0.05 s on an idle core


def test_stdlib_parts(root: Path) -> None:
    with pytest.raises(DataError, match=r'source "stdlib" has no part "doc" \(did you mean "docs"'):
        data.describe(TextConfig(part="doc"), root=root)
    with pytest.raises(DataError, match="stdlib takes no argument"):
        data.describe(TextConfig(source="stdlib:docs"), root=root)


# ---- text


def test_text_takes_each_file_as_a_document(files: Path, root: Path) -> None:
    texts = texts_of(f"text:{files}/**/*.txt", None, root)
    assert texts == {str(path): path.read_bytes() for path in files.glob("*.txt")}


def test_text_that_matches_nothing(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'source "text:.*/\*\.txt" matches no file'):
        data.describe(TextConfig(source=f"text:{tmp_path}/*.txt"), root=root)


def test_text_of_empty_files_only(root: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.txt").touch()
    with pytest.raises(DataError, match="has no text: every document is empty"):
        data.describe(TextConfig(source=f"text:{tmp_path}/*.txt"), root=root)


def test_text_has_no_parts(files: Path, root: Path) -> None:
    with pytest.raises(DataError, match='has no part "code"'):
        data.describe(TextConfig(source=f"text:{files}/*", part="code"), root=root)


# ---- tfds


class PoemsBuilder(tfds.core.GeneratorBasedBuilder):
    """A small dataset made for these tests, of one or two configs."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name="plain", description="text and a label"),
        tfds.core.BuilderConfig(name="single", description="one Text feature of another name"),
        tfds.core.BuilderConfig(name="unclear", description="two Text features"),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        text, label = tfds.features.Text(), tfds.features.ClassLabel(names=["sad", "glad"])
        features = {
            "plain": {"text": text, "title": text, "label": label},
            "single": {"verse": text, "label": label},
            "unclear": {"verse": text, "title": text},
        }[self.builder_config.name]
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0), "test": self._generate_examples(1000)}

    def _generate_examples(self, first: int):
        for i in range(first, first + 40):
            row = {"text": poem(i), "verse": poem(i), "title": f"poem {i}", "label": i % 2}
            yield i, {name: row[name] for name in self.info.features}


def poem(i: int) -> str:
    return f"Poem number {i}\n" + "tum ti tum ti tum ŵ\n" * (i % 9)


@pytest.fixture(scope="module")
def poems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensorflow_datasets")
    tfds.disable_progress_bar()
    for config in ("plain", "single", "unclear"):
        builder = PoemsBuilder(data_dir=folder, config=config, file_format="array_record")
        builder.download_and_prepare()
    return folder


@pytest.fixture
def tfds_dir(poems: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TFDS_DATA_DIR", str(poems))
    return poems


@pytest.mark.parametrize(
    "name", ["poems_builder/plain", "poems_builder/single", "poems_builder/plain:1.0.0"]
)
@pytest.mark.usefixtures("tfds_dir")
def test_tfds_reads_the_text_of_a_prepared_dataset(name: str, root: Path) -> None:
    texts = texts_of(f"tfds:{name}", None, root)
    assert sorted(texts.values()) == sorted(poem(i).encode() for i in range(40))


@pytest.mark.usefixtures("tfds_dir")
def test_tfds_splits_are_parts_and_batches_come_out(resolved, root: Path) -> None:
    source = "tfds:poems_builder/plain"
    config = resolved(
        **{
            "data.source": source,
            "train.batch_size": 2,
            "evals.sets.test": {"part": "test", "split": "all"},
        }
    )
    assert data.train_batches(config, root).batch(0)["tokens"].shape == (2, 32)
    test = data.eval_batches(config, "test", root).examples.corpus
    tokenizer = tokenizer_of(config.data, root)
    poems = {poem(i) for i in range(1000, 1040)}
    assert sum(len(p.encode()) for p in poems) == len(tokenizer.decode(test.tokens("all").tolist()))


@pytest.mark.usefixtures("tfds_dir")
def test_tfds_unknown_part(root: Path) -> None:
    config = TextConfig(source="tfds:poems_builder/plain", part="tset")
    with pytest.raises(DataError, match=r'has no part "tset" \(did you mean "test"\?\)'):
        data.describe(config, root=root)


@pytest.mark.usefixtures("tfds_dir")
def test_tfds_unclear_feature(root: Path) -> None:
    with pytest.raises(DataError, match=r'no feature "text" and not exactly one .*title, verse'):
        data.describe(TextConfig(source="tfds:poems_builder/unclear"), root=root)


@pytest.mark.usefixtures("tfds_dir")
def test_tfds_config_must_be_named(root: Path) -> None:
    with pytest.raises(DataError, match=r"several configs \(plain, single, unclear\)"):
        data.describe(TextConfig(source="tfds:poems_builder"), root=root)


@pytest.mark.usefixtures("tfds_dir")
@pytest.mark.parametrize("name", ["lm1b", "poems_builder/plain:2.0.0", "poems_builder/other"])
def test_tfds_not_prepared(name: str, root: Path) -> None:
    with pytest.raises(DataError, match=r"is not prepared in .*download_and_prepare"):
        data.describe(TextConfig(source=f"tfds:{name}"), root=root)


def test_tfds_in_a_format_that_needs_tensorflow(poems, monkeypatch, root, tmp_path) -> None:
    source, target = poems / "poems_builder/plain/1.0.0", tmp_path / "poems_builder/plain/1.0.0"
    target.mkdir(parents=True)
    for path in source.iterdir():
        (target / path.name.replace("array_record", "tfrecord")).write_bytes(path.read_bytes())
    info = json.loads((target / "dataset_info.json").read_text())
    (target / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=r"prepared as tfrecord, which only TensorFlow reads; prep"):
        data.describe(TextConfig(source="tfds:poems_builder/plain"), root=root)


def test_names_of_the_documents_are_kept(root: Path, library: dict[str, bytes]) -> None:
    found = documents("stdlib", None, root)
    names = json.loads((found.folder / "names.json").read_text())
    assert len(names) == len(found.texts.digests) == len(set(library.values()) - {b""})
    corpus = prepare(TextConfig(), TextConfig(), root)
    assert corpus.train_documents + corpus.validation_documents == len(names)
