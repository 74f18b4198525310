"""Which windows a resolved run trains on, and which it is evaluated on.

One keyed permutation of a corpus's windows, the same for every run, gives the nested training
subsets and the evaluation sets. Called through `scaling/data` by the training loop.
"""

from pathlib import Path

import numpy as np

from scaling.config import RunConfig
from scaling.data.batches import Batches, Windows
from scaling.data.corpus import Corpus, opened, prepare
from scaling.data.order import permutation
from scaling.data.store import data_dir
from scaling.errors import ConfigError, DataError
from scaling.resolve import eval_data


def train_batches(config: RunConfig, root: Path | None = None) -> Batches:
    """What a resolved run trains on.

    Raises:
      DataError: the prepared corpus is not the one the run was resolved with, or has too few
        windows for one batch.
    """
    windows = _windows(config, "train", None, root)
    selection = _subset(config, windows)
    if len(selection) < config.train.batch_size:
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
    folder = (root or data_dir()) / "corpora" / (config.data.corpus or "")
    if not (folder / "facts.json").is_file():
        return None
    windows = max(0, opened(folder).train_tokens - 1) // config.data.seq_len
    return windows * config.data.seq_len


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
    if eval_set.split == "all":
        _check_disjoint(config, name, windows.corpus, root)
    steps = -(-len(selection) // config.evals.batch_size)
    return Batches(windows, selection, config.evals.batch_size, None, steps)


def _windows(config: RunConfig, split: str, name: str | None, root: Path | None) -> Windows:
    data = config.data
    return Windows(_corpus(config, name, root), split, data.seq_len, data.mask_documents)


def _corpus(config: RunConfig, name: str | None, root: Path | None) -> Corpus:
    """The corpus of the run (name None) or of an evaluation set, by the hash it was resolved to."""
    root = root or data_dir()
    eval_set = None if name is None else config.evals.sets[name]
    field = "data" if name is None else f"evals.sets.{name}"
    wanted = config.data.corpus if eval_set is None else eval_set.corpus
    if wanted is None:
        raise ConfigError(f"{field}.corpus is not set: the config is not resolved")
    folder = root / "corpora" / wanted
    if folder.exists():
        return opened(folder)
    data = config.data if eval_set is None else eval_data(config.data, eval_set)
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
    shared = corpus.digests("all") & _corpus(config, None, root).digests("train")
    if shared:
        raise DataError(
            f"evals.sets.{name}.split=all: {len(shared)} of its documents are in the train split "
            f"of data.source={config.data.source}; set evals.sets.{name}.split to validation, "
            "which no training document can be in"
        )
