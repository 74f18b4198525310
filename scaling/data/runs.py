"""Which windows a resolved run trains on, and which it is evaluated on.

One keyed permutation of a corpus's windows, the same for every run, gives the nested training
subsets and the evaluation sets. Called through `scaling/data` by the training loop.
"""

from pathlib import Path

import numpy as np

from scaling import files
from scaling.config import RunConfig
from scaling.config.resolve import eval_data, source_named
from scaling.data.batches import Batches, Windows
from scaling.data.corpus import Corpus, opened, prepare
from scaling.data.order import permutation
from scaling.errors import ConfigError, DataError


def train_batches(config: RunConfig, root: Path | None = None) -> Batches:
    """What a resolved run trains on.

    Raises:
      DataError: the prepared corpus is not the one the run was resolved with, or the subset that
        data.unique_tokens asks for has too few windows for one batch. (A whole split that is
        smaller than a batch is trained on: a batch then holds windows more than once.)
    """
    windows = _windows(config, "train", None, root)
    selection = _subset(config, windows)
    if config.data.unique_tokens and len(selection) < config.train.batch_size:
        raise DataError(
            f"data.unique_tokens: the training set has {len(selection)} windows of data.seq_len="
            f"{config.data.seq_len} tokens, fewer than train.batch_size={config.train.batch_size}; "
            "train on more text, or lower data.seq_len or train.batch_size"
        )
    assert config.train.steps is not None
    return Batches(
        windows, selection, config.train.batch_size, config.data.seed, config.train.steps
    )


def unique_tokens(config: RunConfig, root: Path | None = None) -> int | None:
    """Distinct tokens that a resolved run can train on: of its subset, else of the train split.

    Prepares nothing: None where the whole split is trained on and its corpus is not prepared.
    """
    if config.data.unique_tokens is not None:
        return config.data.unique_tokens
    corpus = _prepared(config, root)
    if corpus is None:
        return None
    return max(0, corpus.train_tokens - 1) // config.data.seq_len * config.data.seq_len


def split_by(config: RunConfig, root: Path | None = None) -> str | None:
    """What went to the splits of a resolved run's corpus: "documents", or "blocks of ...".

    Prepares nothing: None where the corpus is not prepared.
    """
    corpus = _prepared(config, root)
    return None if corpus is None else corpus.split_by


def _prepared(config: RunConfig, root: Path | None) -> Corpus | None:
    folder = (root or files.data_dir()) / "corpora" / (config.data.corpus or "")
    return opened(folder) if (folder / "facts.json").is_file() else None


def eval_batches(config: RunConfig, name: str, root: Path | None = None) -> Batches:
    """One pass over the evaluation set `name` of a resolved run, at most evals.batches batches.

    The windows are the same for every run on the corpus; but of the split that the run trains on
    they are a sample, evenly spread, of the windows that the run will have seen at its end.

    Raises:
      DataError: the set has no whole window, or shares documents with the train split.
    """
    eval_set = config.evals.sets[name]
    windows = _windows(config, eval_set.split, name, root)
    most = config.evals.batches * config.evals.batch_size
    if eval_set.split == "train" and eval_set.corpus == config.data.corpus:
        seen = _seen(config, _subset(config, windows))
        count = min(most, len(seen))
        selection = seen[np.arange(count) * len(seen) // max(1, count)]
    else:
        selection = _order(windows)[:most]
    if not len(selection):
        raise DataError(
            f"evals.sets.{name}: the {eval_set.split} split of its source has fewer than "
            f"data.seq_len={config.data.seq_len} tokens; give it more documents, raise "
            f"data.validation_fraction, or set evals.sets.{name}.split to all"
        )
    if eval_set.split != "train":
        _check_disjoint(config, name, windows.corpus, root)
    steps = -(-len(selection) // config.evals.batch_size)
    return Batches(windows, selection, config.evals.batch_size, None, steps)


def _windows(config: RunConfig, split: str, name: str | None, root: Path | None) -> Windows:
    data = config.data
    return Windows(_corpus(config, name, root), split, data.seq_len, data.mask_documents)


def _corpus(config: RunConfig, name: str | None, root: Path | None) -> Corpus:
    """The corpus of the run (name None) or of an evaluation set, by the hash it was resolved to."""
    root = root or files.data_dir()
    eval_set = None if name is None else config.evals.sets[name]
    field = "data" if name is None else f"evals.sets.{name}"
    wanted = config.data.corpus if eval_set is None else eval_set.corpus
    if wanted is None:
        raise ConfigError(f"{field}.corpus is not set: the config is not resolved")
    folder = root / "corpora" / wanted
    if folder.exists():
        return opened(folder)
    data = config.data if eval_set is None else eval_data(config.data, eval_set)
    with source_named(field):
        corpus = prepare(data, config.data, root)
    if corpus.content_hash != wanted:
        raise DataError(
            f"{field}.corpus={wanted}, but {data.source} is now {corpus.content_hash}: its files "
            "changed, or this is another Python version. Bring the files back, or start a new run"
        )
    return corpus


def _order(windows: Windows) -> np.ndarray:
    """Every window, in the one order from which subsets are taken."""
    return permutation(len(windows), ("windows",))


def _subset(config: RunConfig, windows: Windows) -> np.ndarray:
    """The windows of the nested training subset: the first of the order, so that sizes nest."""
    unique = config.data.unique_tokens
    return _order(windows)[: None if unique is None else unique // windows.seq_len]


def _seen(config: RunConfig, subset: np.ndarray) -> np.ndarray:
    """The windows of the subset that the run meets, all of them if it lasts an epoch."""
    assert config.train.steps is not None
    order = permutation(len(subset), ("epoch", config.data.seed or 0, 0))
    return subset[order[: config.train.steps * config.train.batch_size]]


def _check_disjoint(config: RunConfig, name: str, corpus: Corpus, root: Path | None) -> None:
    """That no document of an evaluation set is trained on, as a whole or a block of it."""
    split, trained_on = config.evals.sets[name].split, _corpus(config, None, root)
    by_blocks = trained_on.split_by != "documents"
    if corpus.content_hash == trained_on.content_hash and split == "validation":
        return
    if split == "validation" and not by_blocks:
        return  # a document goes to the same split wherever it is found
    if shared := corpus.documents(split) & trained_on.documents("train"):
        way_out = (
            "take documents that data.source does not match"
            if by_blocks
            else f"set evals.sets.{name}.split to validation, which no training document can be in"
        )
        raise DataError(
            f"evals.sets.{name}.split={split}: {len(shared)} of its documents are in the train "
            f"split of data.source={config.data.source}; {way_out}"
        )
