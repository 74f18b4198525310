"""A model's parameters in one small file: whole numbers of a few bits, and sparse ones as a bitmask
with the values that are not zero.

Takes and gives NumPy arrays by path. The file is laid out as safetensors are (eight bytes of the
header's length, the header as JSON, then the bytes), so that other programs can open it; how each
parameter is packed stands in the header's `__metadata__`. `promised` says the size of a file from
shapes, bits and numbers of zeros alone. Called by `scaling/train/compression.py`. No jax here.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from etils import epath

from scaling import files
from scaling.errors import DamagedError

FLOAT = 32  # bits of a parameter that is no whole number


@dataclass(frozen=True)
class Tensor:
    """A parameter: float32, or whole numbers of `bits` with what one of them is."""

    values: np.ndarray  # float32, or int8 from -(2^(bits - 1) - 1) to its opposite
    bits: int = FLOAT
    scale: np.ndarray | None = None  # float32, broadcast over `values`

    @property
    def whole(self) -> np.ndarray:
        """float32, as the model uses it."""
        if self.scale is None:
            return self.values
        return self.values.astype(np.float32) * self.scale

    @property
    def form(self) -> "Form":
        """All that its size on disk depends on."""
        scale = () if self.scale is None else self.scale.shape
        return Form(self.values.shape, self.bits, int(np.count_nonzero(self.values)), scale)


@dataclass(frozen=True)
class Form:
    """What the bytes of a parameter are."""

    shape: tuple[int, ...]
    bits: int
    nonzero: int
    scale: tuple[int, ...]  # shape; (): none

    @property
    def size(self) -> int:
        """Numbers."""
        return math.prod(self.shape)

    @property
    def sparse(self) -> bool:
        """Whether a mask and what it leaves are smaller than all values."""
        return _bytes(self.size, 1) + _bytes(self.nonzero, self.bits) < _bytes(self.size, self.bits)

    def parts(self) -> Iterator[tuple[str, str, int]]:
        """(suffix of the name, type, bytes) of each array of the file."""
        if self.sparse:
            yield ".mask", "U8", _bytes(self.size, 1)
        stored = self.nonzero if self.sparse else self.size
        yield "", "F32" if self.bits == FLOAT else "U8", _bytes(stored, self.bits)
        if self.scale:
            yield ".scale", "F32", 4 * math.prod(self.scale)


def _bytes(count: int, bits: int) -> int:
    return -(-count * bits // 8)


def promised(forms: Mapping[str, Form]) -> int:
    """Bytes of the file of such parameters."""
    body = sum(size for form in forms.values() for _, _, size in form.parts())
    return len(_header(forms)) + body


def _header(forms: Mapping[str, Form]) -> bytes:
    at, found = 0, {}
    for path, form in sorted(forms.items()):
        for suffix, kind, size in form.parts():
            count = size // 4 if kind == "F32" else size
            found[path + suffix] = {
                "dtype": kind,
                "shape": [count],
                "data_offsets": [at, at + size],
            }
            at += size
    how = {path: json.dumps(asdict(form)) for path, form in sorted(forms.items())}
    text = json.dumps({"__metadata__": how} | found, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write(path: epath.PathLike, tensors: Mapping[str, Tensor]) -> int:
    """Writes the file, atomically; gives its bytes."""
    forms = {name: tensor.form for name, tensor in tensors.items()}
    pieces = [_header(forms)]
    for name, form in sorted(forms.items()):
        tensor = tensors[name]
        kept = tensor.values.reshape(-1)
        if form.sparse:
            pieces.append(np.packbits(kept != 0, bitorder="little").tobytes())
            kept = kept[kept != 0]
        pieces.append(packed(kept, form.bits))
        if tensor.scale is not None:
            pieces.append(tensor.scale.astype("<f4").tobytes())
    content = b"".join(pieces)
    files.write_atomic(epath.Path(path), content)
    return len(content)


def read(path: epath.PathLike) -> dict[str, Tensor]:
    """The parameters of a file that `write` has made. Raises DamagedError naming it."""
    content = epath.Path(path).read_bytes()
    try:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        forms = {name: _form(text) for name, text in header["__metadata__"].items()}
        if len(content) != promised(forms):
            raise ValueError(f"{len(content)} bytes, not {promised(forms)}")
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(
            f"{path} is no file of packed weights ({error}); write it again with launch.py compress"
        ) from error
    at, tensors = 8 + length, {}
    for name, form in sorted(forms.items()):
        parts = {}
        for suffix, _, size in form.parts():
            parts[suffix] = content[at : at + size]
            at += size
        values = unpacked(parts[""], form.nonzero if form.sparse else form.size, form.bits)
        if form.sparse:
            bits = np.frombuffer(parts[".mask"], np.uint8)
            mask = np.unpackbits(bits, count=form.size, bitorder="little").astype(bool)
            whole = np.zeros(form.size, values.dtype)
            whole[mask] = values
            values = whole
        scale = np.frombuffer(parts[".scale"], "<f4").reshape(form.scale) if form.scale else None
        tensors[name] = Tensor(values.reshape(form.shape), form.bits, scale)
    return tensors


def _form(text: str) -> Form:
    found = json.loads(text)
    return Form(tuple(found["shape"]), found["bits"], found["nonzero"], tuple(found["scale"]))


def packed(values: np.ndarray, bits: int) -> bytes:
    """[N] as ceil(N bits / 8) bytes: whole numbers from 0 on, the lowest bit first."""
    if bits == FLOAT:
        return values.astype("<f4").tobytes()
    from_zero = (values.astype(np.int16) + 2 ** (bits - 1) - 1).astype(np.uint8)
    ones = from_zero[:, None] >> np.arange(bits, dtype=np.uint8)[None] & 1
    return np.packbits(ones.reshape(-1), bitorder="little").tobytes()


def unpacked(content: bytes, count: int, bits: int) -> np.ndarray:
    """What `packed` was given: float32 or int8 [N]."""
    if bits == FLOAT:
        return np.frombuffer(content, "<f4")
    flat = np.unpackbits(np.frombuffer(content, np.uint8), count=count * bits, bitorder="little")
    weights = 2 ** np.arange(bits, dtype=np.int16)
    return (flat.reshape(count, bits) @ weights - (2 ** (bits - 1) - 1)).astype(np.int8)
