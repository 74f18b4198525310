"""Text: documents of a source, tokenized, in windows of `seq_len` tokens; the unit is the token.

`sources.py` finds documents, `corpus.py` prepares them once, `windows.py` gives examples.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from scaling.config.contracts import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    WITHIN,
    Examples,
    Facts,
    Kind,
    Shape,
)
from scaling.data.kinds.text import canaries, exchanged
from scaling.data.kinds.text.corpus import Corpus, opened, prepare, tokenizer
from scaling.data.kinds.text.fields import IDLE, TextConfig
from scaling.data.kinds.text.windows import Windows
from scaling.errors import ConfigError, DataError, SourceError


def _facts(data: TextConfig, train: TextConfig, root: Path) -> Facts:
    """The facts of the corpus of `data`, as tokenized for a run that trains on `train`; prepared
    now if it is not, else found in milliseconds.

    Raises:
      DataError: no such source or part, no text in it, or (of a training corpus) a split without a
        single window.
      ConfigError: a BPE vocabulary that is too small.
    """
    corpus = prepare(data, train, root)
    windows = {
        split: max(0, count - 1) // data.seq_len
        for split, count in (
            ("train", corpus.train_tokens),
            ("validation", corpus.validation_tokens),
        )
    }
    trained_on = (data.source, data.part) == (train.source, train.part)
    for split, count in windows.items():
        if trained_on and not count:
            raise DataError(
                f'data.source="{data.source}": its {split} split is too small for one window of '
                f"data.seq_len={data.seq_len} tokens (of its {corpus.split_by}, each once, "
                f"{corpus.train_documents} went to train and {corpus.validation_documents} to "
                "validation); give more text, or change data.validation_fraction or data.seq_len"
            )
    sizes = {"vocab": corpus.vocab}
    return Facts(corpus.content_hash, windows["train"], windows["validation"], sizes)


def _examples(data: TextConfig, train: TextConfig, split: str, root: Path) -> Examples:
    """The windows of a split of the corpus that `data.corpus` names. Raises SourceError where that
    is not what the source has now.
    """
    corpus = _corpus(data, train, root)
    windows = Windows(corpus, split, data.seq_len, data.mask_documents)
    if split != "train" or corpus.content_hash != train.corpus:
        return windows
    return replace(windows, planted=canaries.planted(train, len(windows)))


def _planted(data: TextConfig, repeats: int, root: Path) -> Examples:
    return canaries.secrets(data, repeats, _corpus(data, data, root).separator)


def _resolve(data: TextConfig, facts: Facts) -> TextConfig:
    """Nothing is left to fill in. Raises ConfigError for secrets that have no room."""
    if not data.canaries:
        return data
    if data.tokenizer != "bytes" or data.seq_len * 3 // 4 < canaries.LENGTH:
        raise ConfigError(
            f"data.canaries={data.canaries}: secrets of {canaries.LENGTH} bytes are planted in "
            f"windows of bytes, behind their first quarter; set data.tokenizer=bytes and "
            f"data.seq_len to {-(-canaries.LENGTH * 4 // 3)} or more"
        )
    if (most := canaries.repeats(data)[-1]) != data.canary_repeats:
        raise ConfigError(
            f"data.canary_repeats={data.canary_repeats} is no power of 4; set it to {most}, or to "
            f"{4 * most}"
        )
    found = canaries.planted(data, facts.train_examples)
    assert found is not None
    if (wanted := data.canaries * sum(canaries.repeats(data))) > found.windows:
        raise ConfigError(
            f"data.canaries={data.canaries} and data.canary_repeats={most} take {wanted} windows, "
            f"and the training set has {found.windows}; lower one of them"
        )
    return data


def _corpus(data: TextConfig, train: TextConfig, root: Path) -> Corpus:
    wanted = data.corpus or ""
    folder = root / "corpora" / wanted
    if folder.exists():
        return opened(folder)
    corpus = prepare(data, train, root)
    if corpus.content_hash != wanted:
        raise SourceError(
            f"{wanted} is wanted, but {data.source} is now {corpus.content_hash}: its files "
            "changed, or this is another Python version. Bring the files back, or start a new run",
            "corpus",
        )
    return corpus


def _shared(data: TextConfig, split: str, train: TextConfig, root: Path) -> int:
    """Documents of an evaluation set that are trained on, as a whole or a block of them."""
    corpus, trained_on = _corpus(data, train, root), _corpus(train, train, root)
    by_blocks = trained_on.split_by != "documents"
    if corpus.content_hash == trained_on.content_hash and split == "validation":
        return 0
    if split == "validation" and not by_blocks:
        return 0  # a document goes to the same split wherever it is found
    return len(corpus.documents(split) & trained_on.documents("train"))


def _about(data: TextConfig, root: Path) -> dict[str, Any]:
    """The distinct tokens that a run can train on, and what went to the splits: "documents", or
    "blocks of ...".
    """
    folder = root / "corpora" / (data.corpus or "")
    if not (folder / "facts.json").is_file():
        return {}
    corpus = opened(folder)
    unique = max(0, corpus.train_tokens - 1) // data.seq_len * data.seq_len
    return {"unique": unique, "split_by": corpus.split_by}


def _shapes(data: TextConfig) -> dict[str, Shape]:
    integers = ("tokens", "targets", "positions", "target_bytes")
    names = integers + ("segment_ids",) * data.mask_documents
    dtypes = dict.fromkeys(names, "int32") | {"loss_mask": "float32"}
    return {name: ((data.seq_len,), dtype) for name, dtype in dtypes.items()}


def _inspect(data: TextConfig, lines: int, root: Path) -> tuple[str, dict[str, Any]]:
    """What the corpus holds. Raises as `_facts`."""
    from scaling.data.kinds.text.inspected import text
    from scaling.data.kinds.text.inspection import inspect

    found = inspect(data, lines, root)
    return text(found), asdict(found)


def _of_bpe(config: Any) -> bool:
    return bool(config.data.tokenizer == "bpe")


KIND = Kind(
    config=TextConfig,
    fields=frozenset({"tokens", "targets", "positions", "loss_mask", "target_bytes"}),
    weights=("loss_mask", "target_bytes"),
    facts=_facts,
    examples=_examples,
    resolve=_resolve,
    shapes=_shapes,
    repeats=canaries.repeats,
    planted=_planted,
    shared=_shared,
    about=_about,
    shortened=lambda data, units: replace(data, seq_len=units),
    tokenizer=tokenizer,
    inspect=_inspect,
    ranges=(
        (("seq_len", "bpe_vocab"), AT_LEAST_ONE),
        (("validation_fraction",), WITHIN),
        (("canaries",), NOT_NEGATIVE),
        (("canary_repeats",), AT_LEAST_ONE),
    ),
    adopt=exchanged.adopt,
    idle=((("data.bpe_vocab",), _of_bpe, "data.tokenizer=bpe"), *IDLE),
)

__all__ = ["KIND", "TextConfig"]
