"""A run as a folder that other programs read: `launch.py export`.

Takes a run directory with a checkpoint; writes the weights as the model uses them (adapters merged,
averages where the run has them), a `config.json` and, of text, a `tokenizer.json`. A run that was
imported goes out as it came in, bit for bit.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath

from scaling import files
from scaling.config import RunConfig, choices, to_dict
from scaling.errors import ConfigError, UserError
from scaling.exchange import tensors
from scaling.exchange.inward import kept
from scaling.families import beside_weights, exchanged
from scaling.families.exchanged import Architecture
from scaling.optim import subtree
from scaling.records import RunDirectory
from scaling.train.opened import newest

# Keys that a config of some architectures has beside the token before a text, which ours has for
# all of them.
_MASK = "<|mask|>"  # the name of a row that masks, where it is none of the run's tokens
_BEGINS = ("decoder_start_token_id", "pad_token_id")


def plain(run: RunDirectory, out: Path) -> Path:
    """Weights under our own names, float32, and the run's resolved config."""
    opened = newest(run)
    leaves = _leaves(opened.used)
    folder = tensors.new_folder(out, "--out")
    tensors.write(folder, leaves, dict.fromkeys(leaves, "float32"))
    (folder / "config.json").write_text(json.dumps(to_dict(opened.config), indent=2))
    return folder


def transformers(run: RunDirectory, out: Path, dtype: str | None = None) -> Path:
    """A folder for `from_pretrained` of the library transformers.

    Args:
      dtype: of the weights; None: float32, or as they were imported.

    Raises UserError for a model that is none of theirs, naming the fields.
    """
    config = run.config()
    known = choices.load(choices.family(config.model).exchange)
    if not known:
        raise UserError(
            f"export: a run of model.family={config.model.family} is none of the architectures "
            "that are known of others; --to=safetensors writes its weights under our names"
        )
    came = kept(run)
    if came is not None:
        architecture = exchanged.among(known, came.config)
    else:
        architecture = exchanged.nearest(known, config.model)
    architecture = architecture.of(config.model)
    try:
        theirs = exchanged.to_theirs(architecture, _leaves(newest(run).used))
    except ConfigError as error:
        raise UserError(
            f"export: {error} (transform.name={config.transform.name}); --to=safetensors writes "
            "them under our names"
        ) from error
    folder = tensors.new_folder(out, "--out")
    if came is None:
        write(config, architecture, theirs, folder, dtype or "float32")
        return folder
    # A model that was saved without its head has names without the prefix.
    short = len(architecture.prefix)
    theirs = {n if n in came.dtypes else n[short:]: tensor for n, tensor in theirs.items()}
    dtypes = dict.fromkeys(theirs, dtype) if dtype is not None else {}
    tensors.write(folder, theirs | dict(came.unused), dict(came.dtypes) | dtypes)
    tensors.copy_texts(came.folder, epath.Path(folder))
    if dtype is not None:
        _write_config(folder, dict(came.config) | {"dtype": dtype, "torch_dtype": dtype})
    return folder


def write(
    config: RunConfig,
    architecture: Architecture,
    theirs: Mapping[str, np.ndarray],
    folder: Path,
    dtype: str,
) -> None:
    """Writes their tensors, config.json and the tokenizer of a resolved run to a folder."""
    tensors.write(folder, theirs, dict.fromkeys(theirs, dtype))
    said = exchanged.written(architecture, config.model, _length(config.data))
    said |= {"dtype": dtype, "torch_dtype": dtype}
    if names := getattr(config.data, "labels", None):
        said |= beside_weights.labels(names.split(","))
    own = _tokenizer(config, folder)
    begins = {key: own["_begins"] for key in _BEGINS if key in said}
    own = {key: value for key, value in own.items() if not key.startswith("_")}
    _write_config(folder, said | own | begins)


def _length(data: Any) -> int:
    """Units of a row that is read."""
    shapes = choices.kind(data).shapes(data)
    rows = [shapes[name][0] for name in ("source", "tokens") if name in shapes]
    return rows[0][0] if rows else int(data.units_per_example)


def _write_config(folder: Path, said: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(said, indent=2) + "\n")


def _tokenizer(config: RunConfig, folder: Path) -> dict[str, Any]:
    """Writes the files of the run's tokenizer, if it reads text; gives what config.json says of it,
    and the token that a written text begins with as "_begins".

    A document begins, and so ends, with its separator.
    """
    kind = choices.kind(config.data)
    if kind.tokenizer is None:
        return {"bos_token_id": None, "eos_token_id": None, "_begins": None}
    tokenizer = kind.tokenizer(config.data, files.data_dir())
    content, separator = tokenizer.exported()
    masks = beside_weights.mask_row(config.model, len(tokenizer))
    if masks:
        import tokenizers

        library = tokenizers.Tokenizer.from_str(content.decode())
        library.add_special_tokens([_MASK])
        content = library.to_str(pretty=True).encode()
    (folder / "tokenizer.json").write_bytes(content)
    said = dict.fromkeys(("bos_token_id", "eos_token_id"), tokenizer.separator)
    said["_begins"] = tokenizer.begins
    if others := tokenizer.beside() if hasattr(tokenizer, "beside") else {}:
        for name, content in others.items():
            (folder / name).write_bytes(content)
        return said
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": separator,
        "eos_token": separator,
        "clean_up_tokenization_spaces": False,
        "model_max_length": _length(config.data),
    }
    if masks:
        about["mask_token"] = _MASK
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=2) + "\n")
    return said


def _leaves(params: Any) -> dict[str, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in subtree.leaves(jax.device_get(params))}
