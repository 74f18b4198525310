"""One small corpus of text files, prepared once; runs resolved on it; and the standard library."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from scaling import data
from scaling.config import RunConfig, override
from scaling.config.contracts import Size
from scaling.config.resolve import resolve
from scaling.data.kinds.text import TextConfig

Resolver = Callable[..., RunConfig]


def write_documents(folder: Path, count: int, seed: int) -> list[bytes]:
    """Texts of 1 to 900 bytes without NUL, some of them no UTF-8, one file each."""
    rng = random.Random(seed)
    words = [rng.randbytes(rng.randint(1, 9)).hex().encode() for _ in range(80)]
    words += [b"\xff\xfe", "naïve ŵords 漢字".encode(), b"\n\n    ", b"\x08", b"1234567"]
    texts = []
    for i in range(count):
        text = b" ".join(rng.choice(words) for _ in range(rng.randint(1, 60)))
        texts.append(f"{i} ".encode() + text if i % 7 else bytes([1 + i % 255]))
        (folder / f"{i:04d}.txt").write_bytes(texts[-1])
    return texts


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 files with text, copies of two of them, and an empty one."""
    folder = tmp_path_factory.mktemp("text")
    texts = write_documents(folder, 300, seed=0)
    (folder / "copy.txt").write_bytes(texts[3])
    (folder / "another_copy.txt").write_bytes(texts[3])
    (folder / "empty.txt").write_bytes(b"")
    return folder


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory that the session's tests share."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def resolved(files: Path, root: Path) -> Resolver:
    """resolved(**{"data.seq_len": 16}): a resolved run on `files`, some fields replaced."""

    def make(**overrides: object) -> RunConfig:
        fields = {
            "data.source": f"text:{files}/*.txt",
            "data.validation_fraction": 0.2,
            "data.seq_len": 32,
            "train.steps": 40,
            "train.batch_size": 8,
            "evals.batch_size": 8,
            **overrides,
        }
        size = Size(1000, 1000, 1000, flops_per_unit=6000.0)
        return resolve(
            override(RunConfig(), fields),
            lambda of, train: data.describe(of, train, root),
            lambda _: size,
        )

    return make


@pytest.fixture(scope="session")
def config(files: Path) -> TextConfig:
    """The corpus of `files`."""
    return TextConfig(source=f"text:{files}/*.txt", validation_fraction=0.2, seq_len=32)
