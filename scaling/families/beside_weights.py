"""What stands beside the weights of others: names of classes in `config.json`, and tokenizers.

Called by `scaling/exchange`, which reads and writes the files.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scaling.errors import UserError

# Files of tokenizers: those that are read and kept, and those of other forms.
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_FORMS = ("vocab.txt", "spiece.model", "tokenizer.model", "vocab.json")
_MASKS = ("[MASK]", "<mask>")  # names of tokens that mask, where no file says it


# ---- classes


def labels(names: Sequence[str]) -> dict[str, Any]:
    """What a config.json says of classes with these names."""
    numbered = {str(i): name for i, name in enumerate(names)}
    return {"id2label": numbered, "label2id": {name: int(i) for i, name in numbered.items()}}


def unnamed(count: int) -> list[str]:
    """The names that stand there for classes without."""
    return [f"LABEL_{i}" for i in range(count)]


def label_names(given: Mapping[str, Any]) -> str | None:
    """The names of classes by a config.json, with commas; None where it has none, or one that has
    a comma.
    """
    said = {str(number): str(name) for number, name in (given.get("id2label") or {}).items()}
    names = [said.get(str(i), "") for i in range(len(said))]
    if not names or names == unnamed(len(names)) or not all(names) or "," in "".join(names):
        return None
    return ",".join(names)


# ---- tokenizers


def tokenizer_files(folder: Path) -> dict[str, bytes]:
    """The files of a folder's tokenizer by name, tokenizer.json among them; none: it has none.
    Raises UserError for one in another form.
    """
    if (folder / _TOKENIZER[0]).is_file():
        return {n: (folder / n).read_bytes() for n in _TOKENIZER if (folder / n).is_file()}
    for name in _FORMS:
        if (folder / name).is_file():
            raise UserError(
                f"{folder} has {name} and no tokenizer.json, which this code reads; write it with "
                f'AutoTokenizer.from_pretrained("{folder}").save_pretrained("{folder}") of '
                "transformers, or leave the tokenizer out with --notokenizer"
            )
    return {}


def tokens_before(given: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """What stands before a document, and before a text that a decoder writes, by a config.json;
    None: it does not say it.
    """
    ends, separator = given.get("eos_token_id"), given.get("bos_token_id")
    if separator is None:
        separator = ends[0] if isinstance(ends, list) else ends
    begins = given.get("decoder_start_token_id")
    if begins is None and given.get("is_encoder_decoder"):
        begins = given.get("pad_token_id")  # as transformers has it
    return separator, begins


def mask_row(model: Any, tokens: int) -> bool:
    """Whether the row behind so many tokens is that of a resolved model which masks them."""
    return bool(getattr(model, "mask_row", False)) and model.vocab == tokens


def mask_token(given: Mapping[str, bytes]) -> int | None:
    """The token that masks others, by the files of a tokenizer; None: none does."""
    said, names = json.loads(given[_TOKENIZER[0]]), list(_MASKS)
    for file in _TOKENIZER[1:]:
        named = json.loads(given.get(file, b"{}")).get("mask_token")
        named = named.get("content") if isinstance(named, dict) else named
        names = [named, *names] if named else names
    added = {token["content"]: int(token["id"]) for token in said.get("added_tokens", ())}
    return next((added[name] for name in names if name in added), None)
