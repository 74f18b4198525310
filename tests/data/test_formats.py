"""What files hold is what is read: compressed, marked, lines, columns; broken ones are named."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prose import compressed, prose, save_to_disk

from scaling.data.kinds.text.sources import open_source
from scaling.errors import SourceError

TEXTS = ["one", "zwei\r\n", "trois — 漢字", "", "five\n" * 40]
RAW = [text.encode() for text in TEXTS]


def read(source: str, part: str | None = None) -> list[bytes]:
    return [d.text for d in open_source(source, part, Path()).documents()]


def lines_of(texts: list[str], field: str = "text") -> bytes:
    return b"".join(json.dumps({"id": i, field: t}).encode() + b"\n" for i, t in enumerate(texts))


def table_of(texts: list[str | None], name: str = "text", kind: pa.DataType | None = None):
    return pa.table({"id": range(len(texts)), name: pa.array(texts, kind or pa.string())})


# ---- text


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
def test_compressed_text_is_known_by_its_first_bytes(tmp_path: Path, kind: str) -> None:
    text = prose(100_000)
    half = len(text) // 2
    (tmp_path / "whole").write_bytes(compressed(text, kind))  # whatever its name
    (tmp_path / "joined.txt").write_bytes(
        compressed(text[:half], kind) + compressed(text[half:], kind)
    )
    assert read(f"text:{tmp_path}/*") == [text, text]
    (tmp_path / "lines.jsonl").write_bytes(compressed(lines_of(TEXTS), kind))
    assert read(f"jsonl:{tmp_path}/lines.jsonl") == RAW
    pq.write_table(table_of(TEXTS), tmp_path / "plain")
    (tmp_path / "packed").write_bytes(compressed((tmp_path / "plain").read_bytes(), kind))
    assert read(f"parquet:{tmp_path}/packed") == RAW


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
def test_a_compressed_file_that_was_cut_short_is_named(tmp_path: Path, kind: str) -> None:
    (tmp_path / "cut").write_bytes(compressed(prose(50_000), kind)[:-9])
    with pytest.raises(SourceError, match=rf"cannot read {tmp_path}/cut: .*(ended|[Tt]runcated)"):
        read(f"text:{tmp_path}/cut")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_dropped_and_wide_characters_become_utf8(tmp_path, encoding) -> None:
    for i, text in enumerate(TEXTS):
        (tmp_path / f"{i}.txt").write_bytes(text.encode(encoding) if text else b"")
    assert read(f"text:{tmp_path}/*.txt") == RAW
    (tmp_path / "lines.jsonl").write_bytes(lines_of(TEXTS).decode().encode(encoding))
    assert read(f"jsonl:{tmp_path}/lines.jsonl") == RAW


def test_line_ends_and_bytes_of_no_encoding_stay(tmp_path: Path) -> None:
    text = b"caf\xe9\r\nna\xefve\r"
    (tmp_path / "latin1.txt").write_bytes(text)
    assert read(f"text:{tmp_path}/latin1.txt") == [text]


def test_a_folder_is_read_with_those_below_it(tmp_path: Path) -> None:
    for name in ("b.txt", "a.md", "below/c.txt", ".hidden", ".git/config", "below/.more/d"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    assert read(f"text:{tmp_path}") == [b"a.md", b"b.txt", b"below/c.txt"]
    (tmp_path / "x.jsonl").write_bytes(lines_of(["x"]))
    (tmp_path / "below/y.jsonl.gz").write_bytes(compressed(lines_of(["y"]), "gzip"))
    assert read(f"jsonl:{tmp_path}/") == [b"y", b"x"]


def test_a_name_with_a_bracket_is_a_name(tmp_path: Path) -> None:
    (tmp_path / "part[1].txt").write_text("itself")
    assert read(f"text:{tmp_path}/part[1].txt") == [b"itself"]


BINARY = {
    "nul": (b"text\0more", r"is not text: byte 4 is NUL"),
    "utf-16 without a mark": ("text".encode("utf-16-le"), r"is not text: byte 1 is NUL.*iconv"),
    "parquet": (b"PAR1....PAR1", r"is a Parquet file, not text; write parquet:<files>"),
    "zip": (b"PK\x03\x04....", r"is a zip archive, not text; unpack it first"),
    "pdf": (b"%PDF-1.7\n....", r"is a PDF file, not text; extract its text first"),
    "png": (b"\x89PNG\r\n\x1a\n", r"is a PNG image, not text; leave it out of the pattern"),
    "tar": (b"name".ljust(257, b"\0") + b"ustar\0", r"is a tar archive; unpack it first"),
    "half of utf-16": (b"\xff\xfea\0b", r"begins as UTF-16-LE, but is not"),
}


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("pack", [False, True])
def test_a_binary_file_is_refused_by_name(tmp_path: Path, name: str, pack: bool) -> None:
    raw, says = BINARY[name]
    (tmp_path / "odd.txt").write_bytes(compressed(raw, "gzip") if pack else raw)
    with pytest.raises(SourceError, match=rf'^source "text:.*{tmp_path}/odd.txt {says}'):
        read(f"text:{tmp_path}/*.txt")


# ---- JSON lines


def test_a_field_of_json_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines_of(TEXTS[:2], "body") + b"\n  \n")
    (tmp_path / "b.jsonl").write_bytes(lines_of(TEXTS[2:], "body").rstrip())
    assert read(f"jsonl:{tmp_path}/*.jsonl#body") == RAW
    names = [d.name for d in open_source(f"jsonl:{tmp_path}#body", None, Path()).documents()]
    assert names[0] == f"{tmp_path}/a.jsonl:1"
    (tmp_path / "c#").mkdir()
    (tmp_path / "c#" / "lone.jsonl").write_text('{"text": "\\ud800"}')  # half a surrogate pair
    assert read(f"jsonl:{tmp_path}/c#/lone.jsonl") == [b"\xed\xa0\x80"]


BAD_LINES = {
    "missing": ('{"txt": "a"}', r'line 2 has no field "text" \(did you mean "txt"\?\); name'),
    "broken": ('{"text": "a"', r"line 2 is not JSON: Expecting"),
    "bytes": (b'{"text": "\xff"}', r"line 2 is not JSON: 'utf-8' codec"),
    "null": ('{"text": null}', r'line 2: field "text" is null, not text'),
    "number": ('{"text": 3}', r'line 2: field "text" is a number, not text'),
    "list": ('["a"]', r"line 2 is a list, not an object"),
    "array": ('[{"text": "a"},', r"line 2 is not JSON.*; one object a line is read, not one list"),
    "deep": ("[" * 100_000, r"line 2 is not JSON"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_named(tmp_path: Path, name: str) -> None:
    line, says = BAD_LINES[name]
    raw = line if isinstance(line, bytes) else line.encode()
    (tmp_path / "bad.jsonl").write_bytes(b'{"text": "fine"}\n' + raw + b"\n")
    with pytest.raises(SourceError, match=rf'^source "jsonl:.*{tmp_path}/bad.jsonl, {says}'):
        read(f"jsonl:{tmp_path}/bad.jsonl")


# ---- Parquet


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
)
def test_a_column_of_parquet(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(table_of(TEXTS, "body", kind), tmp_path / "a.parquet", row_group_size=2)
    pq.write_table(table_of(["more"], "body", kind), tmp_path / "b.parquet", compression="zstd")
    assert read(f"parquet:{tmp_path}/*.parquet#body") == [*RAW, b"more"]
    assert read(f"parquet:{tmp_path}#body") == [*RAW, b"more"]


BAD_COLUMNS = {
    "missing": (table_of(TEXTS, "txt"), r'has no column "text" \(did you mean "txt"\?\); name'),
    "number": (pa.table({"text": [1], "b": ["x"]}), r'column "text" is of type int64.*: b'),
    "null": (table_of(["a", "b", None]), r'row 3: column "text" is null'),
}


@pytest.mark.parametrize("name", BAD_COLUMNS)
def test_a_bad_column_is_named(tmp_path: Path, name: str) -> None:
    table, says = BAD_COLUMNS[name]
    pq.write_table(table, tmp_path / "bad.parquet")
    with pytest.raises(SourceError, match=rf'^source "parquet:.*{tmp_path}/bad.parquet.*{says}'):
        read(f"parquet:{tmp_path}/*")


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(SourceError, match=rf"cannot read {tmp_path}/text.parquet: "):
        read(f"parquet:{tmp_path}/*")


# ---- data sets that were saved to disk


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Two splits, the first of them with every text."""
    rows = [{"id": i, "body": text} for i, text in enumerate(TEXTS)]
    save_to_disk(tmp_path / "saved", {"train": rows, "test": rows[:2]})
    return tmp_path / "saved"


def test_a_saved_data_set(saved: Path) -> None:
    assert read(f"hf:{saved}#body") == RAW
    assert read(f"hf:{saved}#body", "test") == RAW[:2]
    assert read(f"hf:{saved}/test#body") == RAW[:2]


def test_a_saved_data_set_that_is_not_whole(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r'has no part "tets" \(did you mean "test"\?\)'
    ) as raised:
        read(f"hf:{saved}#body", "tets")
    assert raised.value.member == "part"
    with pytest.raises(SourceError, match=r"data-00000-of-00002\.arrow has no column \"text\""):
        read(f"hf:{saved}")
    with pytest.raises(SourceError, match="there is no folder /nowhere"):
        read("hf:/nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"has neither state\.json nor dataset_dict\.json; save"):
        read(f"hf:{tmp_path}/empty")

    first = saved / "train" / "data-00000-of-00002.arrow"
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=rf"cannot read {first}"):
        read(f"hf:{saved}#body")
    first.unlink()
    with pytest.raises(SourceError, match=rf"{first}, named in state\.json, is missing"):
        read(f"hf:{saved}#body")
    state = saved / "train" / "state.json"
    state.write_text('{"_data_files": [], "_indices_files": [{"filename": "i.arrow"}]}')
    with pytest.raises(SourceError, match=r"state\.json selects rows .*flatten_indices\(\)"):
        read(f"hf:{saved}#body")
    state.write_text("{")
    with pytest.raises(SourceError, match=rf"{state} is damaged \(JSONDecodeError"):
        read(f"hf:{saved}#body")


# ---- damage


def mutant(raw: bytes, rng: random.Random) -> bytes:
    """Bytes with a few of them changed, cut off, put in or taken out."""
    out = bytearray(raw)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(4):
            case 0:
                out[at : at + 1] = rng.randbytes(1)
            case 1:
                del out[at:]
            case 2:
                out[at:at] = rng.randbytes(rng.randint(1, 9))
            case 3:
                del out[at : at + rng.randint(1, 40)]
    return bytes(out)


@pytest.mark.parametrize(
    "kind",
    ["gzip", "bzip2", "xz", "zstd", "utf-16", "jsonl", "parquet", "arrow", "state", "splits"],
)
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    rng, texts = random.Random(kind), [prose(300, seed).decode() for seed in range(8)]
    path = tmp_path / "file"
    if kind in ("arrow", "state", "splits"):
        save_to_disk(tmp_path / "saved", {"train": [{"text": text} for text in texts]})
        source, folder = f"hf:{tmp_path}/saved", tmp_path / "saved"
        path = {
            "arrow": folder / "train" / "data-00001-of-00002.arrow",
            "state": folder / "train" / "state.json",
            "splits": folder / "dataset_dict.json",
        }[kind]
    elif kind == "jsonl":
        source = f"jsonl:{path}"
        path.write_bytes(lines_of(texts))
    elif kind == "parquet":
        source = f"parquet:{path}"
        pq.write_table(table_of(texts), path)
    else:
        source, text = f"text:{path}", "".join(texts)
        wide = text.encode("utf-16") if kind == "utf-16" else compressed(text.encode(), kind)
        path.write_bytes(wide)
    raw, refused = path.read_bytes(), list[str]()
    for _ in range(80):
        path.write_bytes(mutant(raw, rng))
        try:
            read(source)
        except SourceError as error:
            refused.append(str(error))
    assert len(refused) > 20
    named = path if kind == "arrow" else tmp_path
    assert all(str(named) in line and "\n" not in line for line in refused)
