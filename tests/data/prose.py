"""Text like a person's, of any size, and files of it, for the tests of data."""

import bz2
import gzip
import json
import lzma
import random
from pathlib import Path

import pyarrow as pa


def prose(size: int, seed: int = 0) -> bytes:
    """Lines of 20 to 80 bytes of words, cut at `size` bytes."""
    rng = random.Random(seed)
    words = [rng.randbytes(rng.randint(1, 4)).hex() for _ in range(3000)]
    lines = (" ".join(rng.choices(words, k=rng.randint(4, 11))) for _ in range(size // 20 + 1))
    return "\n".join(lines).encode()[:size]


def compressed(raw: bytes, kind: str) -> bytes:
    """The bytes as a program of the kind ("gzip", "bzip2", "xz", "zstd") leaves them."""
    if kind == "zstd":
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(raw)
        return sink.getvalue().to_pybytes()
    return {"gzip": gzip, "bzip2": bz2, "xz": lzma}[kind].compress(raw)


def save_to_disk(folder: Path, splits: dict[str, list[dict]], files: int = 2) -> None:
    """What `save_to_disk` of the `datasets` library writes of a `DatasetDict`, as far as it is
    read: each split's rows in Arrow streams, which its state.json lists.
    """
    folder.mkdir(parents=True)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    for split, rows in splits.items():
        (folder / split).mkdir()
        table = pa.Table.from_pylist(rows)
        names = [f"data-{i:05d}-of-{files:05d}.arrow" for i in range(files)]
        for i, name in enumerate(names):
            first, last = (len(rows) * j // files for j in (i, i + 1))
            with pa.ipc.new_stream(folder / split / name, table.schema) as stream:
                stream.write_table(table.slice(first, last - first), max_chunksize=3)
        (folder / split / "dataset_info.json").write_text("{}")
        state = {
            "_data_files": [{"filename": name} for name in names],
            "_fingerprint": "0123456789abcdef",
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": split,
        }
        (folder / split / "state.json").write_text(json.dumps(state))
