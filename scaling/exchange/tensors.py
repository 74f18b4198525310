"""Weights in safetensors files: eight bytes of the header's length, the header as JSON, the bytes.

Tensors are NumPy arrays by name; a folder has one file of them, or several with an index, as other
programs write and expect them. Files are mapped, not read whole. Called by `outward.py` and
`inward.py`.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from etils import epath

from scaling.errors import UserError

DTYPES: dict[str, Any] = {
    "float32": np.dtype("<f4"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype("<f2"),
    "int64": np.dtype("<i8"),
}
_CODES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "I64": "int64"}
_NAMES = {name: code for code, name in _CODES.items()}
_FILE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_TEXTS = (".json", ".txt", ".jinja", ".model", ".md")
_LARGEST = 5 * 10**9  # bytes of one file


def write(folder: Path, tensors: Mapping[str, np.ndarray], dtypes: Mapping[str, str]) -> None:
    """Writes the weights of a model to a folder, each in its dtype, with an index where they are
    more than one file.
    """
    parts, room = [dict[str, np.ndarray]()], _LARGEST
    for name, tensor in sorted(tensors.items()):
        size = tensor.size * DTYPES[dtypes[name]].itemsize
        if parts[-1] and size > room:
            parts, room = [*parts, {}], _LARGEST
        parts[-1][name], room = tensor, room - size
    if len(parts) == 1:
        write_file(folder / _FILE, parts[0], dtypes)
        return
    where = dict[str, str]()
    for i, part in enumerate(parts, 1):
        file = f"model-{i:05d}-of-{len(parts):05d}.safetensors"
        write_file(folder / file, part, dtypes)
        where |= dict.fromkeys(part, file)
    total = sum(t.size * DTYPES[dtypes[name]].itemsize for name, t in tensors.items())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / _INDEX).write_text(json.dumps(index, indent=2))


def write_file(
    path: Path | epath.Path, tensors: Mapping[str, np.ndarray], dtypes: Mapping[str, str]
) -> None:
    """One file."""
    at, header = 0, dict[str, Any]({"__metadata__": {"format": "pt"}})
    for name, tensor in tensors.items():
        end = at + tensor.size * DTYPES[dtypes[name]].itemsize
        header[name] = {
            "dtype": _NAMES[dtypes[name]],
            "shape": list(tensor.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in tensors.items():
            file.write(np.ascontiguousarray(tensor, DTYPES[dtypes[name]]).tobytes())


def read(folder: Path) -> dict[str, np.ndarray]:
    """The weights of a folder, mapped from its files. Raises UserError for a folder without, a file
    that is damaged, and numbers of another kind.
    """
    if (folder / _FILE).is_file():
        return read_file(folder / _FILE)
    if not (folder / _INDEX).is_file():
        raise UserError(
            f"{folder} has no {_FILE} (and no {_INDEX}); give a folder with weights as safetensors"
        )
    try:
        names = sorted(set(json.loads((folder / _INDEX).read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{folder / _INDEX} is damaged ({error}); get it once more") from error
    found = dict[str, np.ndarray]()
    for name in names:
        if not (folder / name).is_file():
            raise UserError(f"{folder} lacks {name}, which its index names; get it once more")
        found |= read_file(folder / name)
    return found


def read_file(path: Path) -> dict[str, np.ndarray]:
    """Those of one file. Raises as `read`."""
    with path.open("rb") as file:
        length, size = int.from_bytes(file.read(8), "little"), path.stat().st_size
        text = file.read(length) if length <= size else b""
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        told = {
            name: (str(one["dtype"]), tuple[int, ...](one["shape"]), *_ends(one["data_offsets"]))
            for name, one in header.items()
        }
        if 8 + length + max((end for *_, end in told.values()), default=0) != size:
            raise ValueError("its end is missing")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no whole file of safetensors ({error}); get it once more"
        ) from error
    data, found = np.memmap(path, np.uint8, "r"), dict[str, np.ndarray]()
    for name, (code, shape, begin, end) in told.items():
        if code not in _CODES:
            raise UserError(
                f"{path}: {name} holds numbers of kind {code}; this code reads "
                f"{', '.join(_CODES)}: save the weights in one of these"
            )
        dtype = DTYPES[_CODES[code]]
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise UserError(f"{path}: {name} has not the bytes of its shape; get it once more")
        place = 8 + length + begin
        found[name] = data[place : place + end - begin].view(dtype).reshape(shape)
    return found


def _ends(offsets: Sequence[int]) -> tuple[int, int]:
    begin, end = offsets
    return int(begin), int(end)


def dtypes(tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Their names in `DTYPES`."""
    return {name: tensor.dtype.name for name, tensor in tensors.items()}


def content_hash(tensors: Mapping[str, np.ndarray]) -> str:
    """12 hex digits of names, shapes and numbers."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.shape} {tensor.dtype.name};".encode())
        found.update(np.ascontiguousarray(tensor).view(np.uint8).data)
    return found.hexdigest()[:12]


def new_folder(path: Path, flag: str) -> Path:
    """A folder that is to be filled, empty. Raises UserError where something is in it."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{flag}={path} is there already; name a new folder")
    path.mkdir(parents=True, exist_ok=True)
    return path


def copy_texts(source: epath.Path, to: epath.Path) -> None:
    """What lies beside the weights: config, tokenizer, templates."""
    to.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.name.endswith(_TEXTS) and path.name != _INDEX:
            (to / path.name).write_bytes(path.read_bytes())
