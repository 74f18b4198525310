"""Data: sources of documents -> a prepared corpus -> windows -> `batch(step)`.

`describe` gives `scaling.config.resolve` the facts of a corpus, preparing it if need be;
`train_batches` and `eval_batches` give a resolved run its batches; `tokenizer` turns text into
tokens and back. NumPy only: nothing here touches a device.
"""

from pathlib import Path

from scaling import files
from scaling.config import DataConfig
from scaling.config.resolve import CorpusFacts
from scaling.data.batches import Batch, Batches
from scaling.data.corpus import prepare, tokenizer
from scaling.data.runs import eval_batches, split_by, train_batches, unique_tokens
from scaling.data.source import Document, Source
from scaling.data.sources import SOURCES
from scaling.data.tokenizers import Tokenizer
from scaling.errors import DataError

__all__ = [
    "SOURCES",
    "Batch",
    "Batches",
    "Document",
    "Source",
    "Tokenizer",
    "describe",
    "eval_batches",
    "split_by",
    "tokenizer",
    "train_batches",
    "unique_tokens",
]


def describe(
    data: DataConfig, train: DataConfig | None = None, root: Path | None = None
) -> CorpusFacts:
    """The facts of the corpus of `data`, as tokenized for a run that trains on `train` (default:
    `data`); prepared now if it is not, else found in milliseconds.

    Raises:
      DataError: no such source or part, no text in it, or (of a training corpus) a split without a
        single window.
      ConfigError: a BPE vocabulary that is too small.
    """
    train = train or data
    corpus = prepare(data, train, root or files.data_dir())
    tokens = {
        split: max(0, count - 1) // data.seq_len * data.seq_len
        for split, count in (("train", corpus.train_tokens), ("val", corpus.validation_tokens))
    }
    trained_on = (data.source, data.part) == (train.source, train.part)
    for split, count in (("train", tokens["train"]), ("validation", tokens["val"])):
        if trained_on and not count:
            raise DataError(
                f'data.source="{data.source}": its {split} split is too small for one window of '
                f"data.seq_len={data.seq_len} tokens (of its {corpus.split_by}, each once, "
                f"{corpus.train_documents} went to train and {corpus.validation_documents} to "
                "validation); give more text, or change data.validation_fraction or data.seq_len"
            )
    return CorpusFacts(
        content_hash=corpus.content_hash,
        vocab=corpus.vocab,
        train_tokens=tokens["train"],
        validation_tokens=tokens["val"],
    )
