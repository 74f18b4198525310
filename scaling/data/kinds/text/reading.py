"""Files as a person has them: found by a glob, a name or a folder, decompressed, and refused where
they are not text.

What is done to text, and nothing else: a byte-order mark is dropped, and UTF-16 and UTF-32 that
begin with one become UTF-8. Line ends stay as they are. Called by `text_files.py` and `columns.py`.
"""

import bz2
import codecs
import contextlib
import glob
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from scaling.errors import SourceError

_HEAD = 512  # bytes that tell what a file is

# What a compressed file begins with; bzip2 has a digit and then one of two marks after its three.
_GZIP, _XZ, _ZSTD = b"\x1f\x8b", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
_BZIP2, _BZIP2_MARKS = b"BZh", (b"1AY&SY", b"\x17rE8P\x90")
_COMPRESSED = ("", ".gz", ".bz2", ".xz", ".zst")  # ends of the names, for files in a folder

# What else is plainly not text, and the way out.
_BINARY = {
    b"PAR1": ("a Parquet file", "write parquet:<files>"),
    b"ARROW1": ("an Arrow file", "write hf:<folder>, if the datasets library saved it"),
    b"PK\x03\x04": ("a zip archive", "unpack it first"),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", "unpack it first"),
    b"Rar!\x1a\x07": ("a RAR archive", "unpack it first"),
    b"\x04\x22\x4d\x18": ("compressed by LZ4", "compress it by gzip, xz or zstd, or not at all"),
    b"%PDF-": ("a PDF file", "extract its text first"),
    b"\xd0\xcf\x11\xe0": ("an Office file", "save it as plain text first"),
    b"\x89PNG": ("a PNG image", ""),
    b"\xff\xd8\xff": ("a JPEG image", ""),
    b"GIF8": ("a GIF image", ""),
    b"\x7fELF": ("a program", ""),
    b"\x93NUMPY": ("a NumPy array", ""),
    b"\x89HDF": ("an HDF5 file", ""),
    b"SQLite format 3\x00": ("an SQLite database", ""),
}
_MARKS = (  # the longer ones first: that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def matching(pattern: str, source: str, suffixes: Sequence[str] = ()) -> list[Path]:
    """The files of a glob, of one name, or of a folder and those below it, sorted.

    In a folder, names that begin with "." are passed over; and where some of the files have one of
    the `suffixes`, compressed or not, they alone are taken.

    Raises:
      SourceError: there is none.
    """
    place = os.path.expanduser(pattern)
    if os.path.isdir(place):
        below = (path.relative_to(place) for path in Path(place).rglob("*") if path.is_file())
        found = [Path(place, path) for path in below if not any(p[0] == "." for p in path.parts)]
        ends = tuple(suffix + end for suffix in suffixes for end in _COMPRESSED)
        found = [path for path in found if path.name.lower().endswith(ends)] or found
    elif os.path.isfile(place):  # also one whose name has a bracket or a star
        found = [Path(place)]
    else:
        found = [Path(path) for path in glob.glob(place, recursive=True) if os.path.isfile(path)]
    if not found:
        raise SourceError(
            f'source "{source}" matches no file (looked in {Path.cwd()}); correct the pattern, or '
            "give an absolute one"
        )
    return sorted(path.absolute() for path in found)


@contextlib.contextmanager
def opened(path: Path, source: str) -> Iterator[IO[bytes]]:
    """A file, decompressed if its first bytes say that it is compressed, whatever its name.

    Raises:
      SourceError: it cannot be read, or is damaged, also while the caller reads from it.
    """
    import pyarrow as pa

    try:
        with open(path, "rb", buffering=0) as raw, contextlib.ExitStack() as stack:
            head = raw.read(_HEAD)
            raw.seek(0)
            stream = _decompressed(raw, head)
            yield stack.enter_context(stream)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
        why = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise SourceError(f'source "{source}": cannot read {path}: {why}') from error


def _decompressed(raw: IO[bytes], head: bytes) -> IO[bytes]:
    import pyarrow as pa

    if head.startswith(_GZIP):
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    if head.startswith(_BZIP2) and head[4:10] in _BZIP2_MARKS:
        return bz2.BZ2File(raw)
    if head.startswith(_XZ):
        return lzma.LZMAFile(raw)
    if head.startswith(_ZSTD):
        return io.BufferedReader(pa.CompressedInputStream(raw, "zstd"))
    return raw


@contextlib.contextmanager
def opened_anywhere(path: Path, source: str) -> Iterator[IO[bytes]]:
    """As `opened`, for a reader that goes back and forth: a compressed file is held in memory."""
    with opened(path, source) as stream:
        yield stream if isinstance(stream, io.FileIO) else io.BytesIO(stream.read())


@contextlib.contextmanager
def opened_text(path: Path, source: str) -> Iterator[IO[bytes]]:
    """A file of text, decompressed, in UTF-8 (or whatever it is in without a mark), without one.

    Raises:
      SourceError: see `opened`; what it begins with is not text.
    """
    with opened(path, source) as stream:
        buffered = io.BufferedReader(cast(io.RawIOBase, stream), 1 << 16)
        head = buffered.peek(_HEAD)[:_HEAD]
        _refuse_binary(head, path, source)
        mark, encoding = next((m for m in _MARKS if head.startswith(m[0])), (b"", ""))
        buffered.read(len(mark))
        if encoding in ("", "utf-8"):
            yield buffered
            return
        try:
            yield io.BytesIO(buffered.read().decode(encoding).encode())
        except UnicodeDecodeError as error:
            raise SourceError(
                f'source "{source}": {path} begins as {encoding.upper()}, but is not: '
                f"{error.reason} at byte {error.start + len(mark)}"
            ) from error


def whole_text(path: Path, source: str) -> bytes:
    """All of a file of text; see `opened_text`. Raises SourceError also for one with a NUL byte."""
    with opened_text(path, source) as stream:
        text = stream.read()
    if (at := text.find(b"\0")) >= 0:
        raise SourceError(
            f'source "{source}": {path} is not text: byte {at} is NUL. Leave it out; or if it is '
            "UTF-16 without a mark, convert it: iconv -f UTF-16LE -t UTF-8"
        )
    return text


def _refuse_binary(head: bytes, path: Path, source: str) -> None:
    for magic, (what, way_out) in _BINARY.items():
        if head.startswith(magic):
            raise SourceError(
                f'source "{source}": {path} is {what}, not text; '
                + (way_out or "leave it out of the pattern")
            )
    if head[257:262] == b"ustar":
        raise SourceError(f'source "{source}": {path} is a tar archive; unpack it first')
