"""A newcomer's own text: every kind of source trains with the shipped configs by one flag."""

import dataclasses
import json
from pathlib import Path

import jax
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from absl import flags
from prose import compressed, prose, save_to_disk

from scaling import data
from scaling.commands import config_flag
from scaling.config import RunConfig
from scaling.config.sweep import Study, grid
from scaling.errors import DataError
from scaling.records import RunDirectory
from scaling.records.status import status_lines
from scaling.studies import study
from scaling.studies.study import load_config
from scaling.train.loop import train

CONFIGS = ("configs/lm.py:debug", "configs/tiny.py:debug")


def given(config: str, *fields: str) -> RunConfig:
    """The config of a command line, as a person types it."""
    values = flags.FlagValues()
    flags.DEFINE_string("config", None, "", flag_values=values)
    flags.DEFINE_multi_string("config.<field>", [], "", flag_values=values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config_flag, "FLAGS", values)
        values(["launch.py", *config_flag.gather("train", [f"--config={config}", *fields])])
        return config_flag.given()


def write(folder: Path, kind: str) -> str:
    """The source of some files of a kind, written to a folder."""
    folder.mkdir(exist_ok=True)
    texts = [prose(3000, seed=i) for i in range(9)]
    rows = [{"body": text.decode(), "n": i} for i, text in enumerate(texts)]
    match kind:
        case "one file":
            (folder / "shakespeare.txt").write_bytes(prose(1_100_000))
            return f"text:{folder}/shakespeare.txt"
        case "a small file":
            (folder / "notes.txt").write_bytes(prose(20_000))
            return f"text:{folder}/notes.txt"
        case "a few hundred bytes":
            (folder / "poem.txt").write_bytes(prose(300))
            return f"text:{folder}/poem.txt"
        case "three files" | "nine files":
            for i, text in enumerate(texts[: 3 if kind == "three files" else 9]):
                (folder / f"{i}.txt").write_bytes(text)
            return f"text:{folder}/*.txt"
        case "a folder":
            (folder / "below").mkdir()
            for i, text in enumerate(texts):
                (folder / ("below" if i % 2 else "") / f"{i}.md").write_bytes(text)
            return f"text:{folder}"
        case "gzip" | "zstd":
            end = {"gzip": "gz", "zstd": "zst"}[kind]
            (folder / f"notes.txt.{end}").write_bytes(compressed(prose(20_000), kind))
            return f"text:{folder}/*.{end}"
        case "JSON lines":
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / "notes.jsonl").write_text(lines)
            return f"jsonl:{folder}/*.jsonl#body"
        case "Parquet":
            pq.write_table(pa.Table.from_pylist(rows), folder / "notes.parquet")
            return f"parquet:{folder}/*.parquet#body"
        case "saved":
            save_to_disk(folder / "saved", {"train": rows})
            return f"hf:{folder}/saved#body"
    raise ValueError(kind)


KINDS = (
    *("one file", "a small file", "a few hundred bytes", "three files", "nine files", "a folder"),
    *("gzip", "zstd", "JSON lines", "Parquet", "saved"),
)


FAST = (("a small file", CONFIGS[1]),)  # the others are alike


def _marks(kind: str, config: str) -> object:
    """Every kind with one config, and one kind with both, are slow; the rest is exhaustive."""
    if (kind, config) in FAST:
        return ()
    few = config == CONFIGS[1] or kind == "one file"
    return pytest.mark.slow if few else pytest.mark.exhaustive


PAIRS = [
    pytest.param(kind, config, marks=_marks(kind, config), id=f"{kind}-{config}")
    for kind in KINDS
    for config in CONFIGS
]


@pytest.mark.parametrize(("kind", "config"), PAIRS)
def test_own_text_trains_by_one_flag(tmp_path: Path, kind: str, config: str) -> None:
    run = study.resolve(given(config, f"--config.data.source={write(tmp_path / 'files', kind)}"))
    outcome = train(run, tmp_path / "out", devices=jax.devices()[:1], quiet=True)
    assert (outcome.status, outcome.step) == ("done", run.train.steps)
    directory = RunDirectory.open(run, tmp_path / "out")
    assert directory.metrics()[-1]["loss"] > 0
    split_by = directory.record()["size"]["split_by"]
    assert f"validation split by {split_by}" in "\n".join(status_lines(tmp_path / "out"))


@pytest.mark.parametrize("kind", KINDS)
def test_own_text_gives_batches_to_both_configs(tmp_path: Path, kind: str) -> None:
    source = write(tmp_path / "files", kind)
    for config in CONFIGS:
        run = study.resolve(given(config, f"--config.data.source={source}"))
        assert set(run.evals.sets) <= {"val", "seen"}
        train_on = data.train_batches(run)
        assert train_on.batch(0)["tokens"].shape == (run.train.batch_size, 32)
        for name in run.evals.sets:
            assert data.eval_batches(run, name).batch(0)["loss_mask"].any()
        held_out = data.eval_batches(run, "val").examples.corpus.digests("validation")
        assert held_out.isdisjoint(train_on.examples.corpus.digests("train"))


def test_sets_of_another_corpus_fall_away_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source = write(tmp_path, "nine files")
    tiny = "configs/tiny.py:debug"
    assert set(given(tiny).evals.sets) == {"val", "seen", "docs"}
    assert capsys.readouterr().err == ""
    assert set(given(tiny, f"--config.data.source={source}").evals.sets) == {"val", "seen"}
    assert capsys.readouterr().err == (
        f"evals.sets.docs is left out: it is part docs of stdlib, and data.source={source}\n"
    )
    named = given(tiny, f"--config.data.source={source}", "--config.evals.sets.docs.source=stdlib")
    assert named.evals.sets["docs"].part == "docs"
    assert capsys.readouterr().err == ""


def test_a_set_that_is_all_of_what_is_trained_on_falls_away(capsys: pytest.CaptureFixture) -> None:
    run = given("configs/tiny.py:debug", "--config.data.part=docs")
    assert set(run.evals.sets) == {"val", "seen"}
    assert capsys.readouterr().err == (
        "evals.sets.docs is left out: it is all of part docs, which is trained on\n"
    )
    assert set(given("configs/tiny.py:debug", "--config.data.part=code").evals.sets) > {"docs"}


def test_sets_of_another_corpus_fall_away_in_a_study(tmp_path: Path) -> None:
    source = write(tmp_path, "nine files")
    base = load_config("configs/tiny.py:debug")
    plan = Study(
        name="corpora",
        question="Which?",
        base=base,
        runs=grid({"data.source": ["stdlib", source], "seed": [0, 1]}),
    )
    sets = [set(config.evals.sets) for config in plan.configs()]
    assert sets == [{"val", "seen", "docs"}] * 2 + [{"val", "seen"}] * 2
    assert plan.left_out() == [
        f"evals.sets.docs is left out: it is part docs of stdlib, and data.source={source}"
    ]
    foreign = dataclasses.replace(base, data=dataclasses.replace(base.data, source=source))
    with pytest.raises(
        DataError, match=r'^evals\.sets\.docs\.part: .*del base\.evals\.sets\["docs"\]'
    ):
        study.resolve(foreign)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        (["--config.data.source=text:/nowhere/*.txt"], r'data\.source: source "text:/nowhere/'),
        (["--config.data.source=stdlb"], r'data\.source: source "stdlb": unknown prefix "stdlb"'),
        (["--config.data.part=doc"], r'data\.part: source "stdlib" has no part "doc"'),
        (
            ["--config.evals.sets.val.source=text:/nowhere"],
            r'evals\.sets\.val\.source: source "text:/nowhere" matches no file',
        ),
        (
            ["--config.evals.sets.docs.part=dogs"],
            r'evals\.sets\.docs\.part: source "stdlib" has no part "dogs"',
        ),
    ],
)
def test_an_error_about_a_source_names_its_field(fields: list[str], names: str) -> None:
    with pytest.raises(DataError, match=f"^{names}"):
        study.resolve(given("configs/tiny.py:debug", *fields))


BROKEN = {  # file, what is in it, source, what the line says of it
    "gzip": ("a.txt.gz", compressed(prose(9000), "gzip")[:-20], "text:{}/*.gz", "a.txt.gz: Compr"),
    "zstd": ("a.zst", compressed(prose(9000), "zstd")[:-9], "text:{}/*.zst", "a.zst: Trunc"),
    "binary": ("a.txt", b"a\0b", "text:{}", "a.txt is not text: byte 1 is NUL"),
    "JSON lines": ("a.jsonl", b'{"body": "a"}\n{"body"', "jsonl:{}/*#body", "a.jsonl, line 2 is"),
    "field": ("a.jsonl", b'{"body": "a"}\n', "jsonl:{}/*", 'a.jsonl, line 1 has no field "text"'),
    "Parquet": ("a.parquet", b"PAR1", "parquet:{}", "a.parquet: "),
    "saved": ("state.json", b"{}", "hf:{}", "state.json is damaged"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("config", CONFIGS)
def test_a_broken_file_is_one_line_with_the_field(tmp_path: Path, kind: str, config: str) -> None:
    name, raw, source, says = BROKEN[kind]
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(DataError) as raised:
        study.resolve(given(config, f"--config.data.source={source.format(tmp_path)}"))
    line = str(raised.value)
    assert line.startswith(f'data.source: source "{source.format(tmp_path)}": ')
    assert f"{tmp_path}/{says}" in line
    assert "\n" not in line
