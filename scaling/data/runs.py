"""Which examples a resolved run trains on, and which it is evaluated on.

One keyed permutation of a split's examples, the same for every run, gives the nested training
subsets and the evaluation sets. The data themselves are their kind's (`kinds/`). Called through
`scaling/data` by the training loop.
"""

import dataclasses
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np

from scaling import files
from scaling.config import RunConfig, choices, contracts
from scaling.config.amounts import resolved, unique_field
from scaling.config.choices import DataConfig
from scaling.config.contracts import Examples, Facts, Shape
from scaling.config.resolve import eval_data, source_named
from scaling.data.batches import Batches
from scaling.data.clients import Rounds, owned_by
from scaling.data.order import endless, nested, permutation
from scaling.errors import ConfigError, DataError


def describe(data: DataConfig, train: DataConfig | None = None, root: Path | None = None) -> Facts:
    """The facts of some data, as prepared for a run that trains on `train` (default: `data`);
    prepared now if they are not, else found in milliseconds.

    Raises:
      DataError: nothing where the source points, or (of training data) a split without an example.
      ConfigError: see the kind of data.
    """
    return choices.kind(data).facts(data, train or data, root or files.data_dir())


def about(config: RunConfig, root: Path | None = None) -> dict[str, Any]:
    """What is known of a resolved run's training data without preparing any: `unique`, the distinct
    units that it can draw from, and whatever its kind says of them.
    """
    data = config.data
    found = choices.kind(data).about(data, root or files.data_dir())
    unique = found.get("unique") if data.unique_units is None else data.unique_units
    return found | ({} if unique is None else {"unique": unique})


def batch_shapes(config: RunConfig) -> dict[str, Shape]:
    """Shape and name of the dtype of every array of a training batch of a resolved run."""
    rows = config.train.batch_size
    shapes = choices.kind(config.data).shapes(config.data)
    return {name: ((rows, *shape), dtype) for name, (shape, dtype) in shapes.items()}


def train_batches(config: RunConfig, root: Path | None = None) -> Batches:
    """What a resolved run trains on.

    Raises:
      DataError: the prepared data are not those that the run was resolved with, or the subset that
        is asked for has too few examples for one batch. (A whole split that is smaller than a batch
        is trained on: a batch then holds examples more than once.)
    """
    data, rows = config.data, config.train.batch_size
    examples = _examples(config, None, root)
    selection = _subset(config, examples)
    if data.unique_units and len(selection) < rows:
        raise DataError(
            f"{unique_field(data)}={data.unique_units}: the training set has {len(selection)} "
            f"examples of {data.units_per_example} {data.unit}s, fewer than train.batch_size="
            f"{rows}; raise it, or lower train.batch_size"
        )
    steps, weights = resolved(config.train.steps), choices.kind(data).weights
    others = tuple(
        (Batches(*_other(config, name, root), rows, data.seed, steps, weights), share)
        for name, share in config.mixture.shares.items()
    )
    rounds = _rounds(config, examples, selection)
    return Batches(examples, selection, rows, data.seed, steps, weights, others, rounds)


def drawn_from(config: RunConfig) -> Hashable:
    """What the training batches of a resolved run follow from: equal of runs that read the same."""
    mixture = config.mixture
    shares = tuple(mixture.shares.items())
    return config.data, config.train.subset_seed, shares, mixture.memory, config.federated


def _rounds(config: RunConfig, examples: Examples, selection: np.ndarray | range) -> Rounds | None:
    """Whose the examples are; None: nobody's."""
    of = config.federated
    if of.clients is None:
        return None
    if isinstance(selection, range):
        raise ConfigError(
            f"federated.clients={of.clients}: these data have no end, and nobody owns a part of "
            "them; leave it unset, or give a training subset"
        )
    labels = None
    if of.skew and "label" in choices.kind(config.data).fields:
        labels = examples.take(selection)["label"]
    owned = owned_by(len(selection), of.clients, of.skew, labels)
    return Rounds(owned, of.per_round, resolved(config.data.seed))


def _other(config: RunConfig, name: str, root: Path | None) -> tuple[Examples, np.ndarray | range]:
    """Of the data of an evaluation set that is mixed in: the train split, and what is drawn of it.
    Raises DataError where that is nothing.
    """
    examples, most = _examples(config, name, root, "train"), config.mixture.memory
    if not len(examples):
        raise DataError(
            f"mixture.shares.{name}: the train split of evals.sets.{name} has no example; leave it "
            "out, or give it more data"
        )
    if most is None and len(examples) >= contracts.ENDLESS:
        return examples, range(contracts.ENDLESS)
    return examples, _order(examples, most)


def eval_batches(config: RunConfig, name: str, root: Path | None = None) -> Batches:
    """One pass over the evaluation set `name` of a resolved run, at most evals.batches batches.

    The examples are the same for every run on the data; but of the split that the run trains on
    they are a sample, evenly spread, of the examples that the run will have seen at its end, or of
    those among them whose label is wrong.

    Raises:
      DataError: the set has no example, or shares some with the train split.
    """
    eval_set, kind = config.evals.sets[name], choices.kind(config.data)
    size = config.evals.batch_size
    if eval_set.by == "exposure":
        assert kind.planted is not None  # `passes.check`
        repeats = resolved(eval_set.repeats)
        secrets = kind.planted(config.data, repeats, root or files.data_dir())
        steps = -(-len(secrets) // size)
        return Batches(secrets, np.arange(len(secrets)), size, None, steps, kind.weights)
    examples = _examples(config, name, root)
    most = config.evals.batches * size
    trained_on = eval_set.split in ("train", "flipped")
    if trained_on and eval_set.corpus == config.data.corpus:
        seen = _seen(config, _subset(config, examples))
        if eval_set.split == "flipped":
            seen = seen[_flipped(name, examples)[seen]]
        count = min(most, len(seen))
        selection = seen[np.arange(count) * len(seen) // max(1, count)]
    else:
        selection = _order(examples, most)
    if not len(selection):
        raise DataError(
            f"evals.sets.{name}: the {eval_set.split} split of its source has not one example of "
            f"{config.data.units_per_example} {config.data.unit}s; give it more data, raise "
            f"data.validation_fraction, or set evals.sets.{name}.split to all"
        )
    if not trained_on:
        _check_disjoint(config, name, root)
    steps = -(-len(selection) // size)
    return Batches(examples, selection, size, None, steps, kind.weights)


def training_set(config: RunConfig, root: Path | None = None) -> tuple[Examples, np.ndarray]:
    """The train split of a resolved run, and the numbers of those of its examples that the run
    draws from: int64 [examples]. Raises DataError as `train_batches`, and for data without end.
    """
    examples = _examples(config, None, root)
    subset = _subset(config, examples)
    if isinstance(subset, range):
        raise DataError("the training data have no end: nobody can tell who is among them")
    return examples, subset


def probe_batches(config: RunConfig, name: str, root: Path | None = None) -> Batches:
    """What the linear probe of the evaluation set `name` is fitted to: examples that the run can
    train on, evenly spread over them, as they are evaluated (nothing is drawn); the same however
    long it trains. Raises DataError as `train_batches`.
    """
    examples, rows = _examples(config, None, root), config.evals.batch_size
    subset = _subset(config, examples)
    if isinstance(subset, range):
        subset = _seen(config, subset)
    one, weights = config.evals.sets[name], choices.kind(config.data).weights
    count = min(one.fit_batches * rows, len(subset))
    selection = subset[np.arange(count) * len(subset) // count]
    if one.shots is not None:
        selection = _shots(examples, selection, one.shots)
    return Batches(examples, selection, rows, None, -(-len(selection) // rows), weights)


def _shots(examples: Examples, selection: np.ndarray, shots: int) -> np.ndarray:
    """The first `shots` of every class among some examples; all of a class that has fewer."""
    label = examples.take(selection)["label"]
    rank, seen = np.empty(len(label), np.int64), dict[int, int]()
    for place, of in enumerate(label.tolist()):
        rank[place] = seen.get(of, 0)
        seen[of] = int(rank[place]) + 1
    return selection[rank < shots]


def _examples(
    config: RunConfig, name: str | None, root: Path | None, split: str | None = None
) -> Examples:
    """The train split of the run (name None) or an evaluation set's own (or `split`), by the hash
    it was resolved to.
    """
    field = "data" if name is None else f"evals.sets.{name}"
    split = split or ("train" if name is None else config.evals.sets[name].split)
    split = "train" if split == "flipped" else split
    data = _data(config, name)
    if data.corpus is None:
        raise ConfigError(f"{field}.corpus is not set: the config is not resolved")
    with source_named(field):
        open_ = choices.kind(config.data).examples
        return open_(data, config.data, split, root or files.data_dir())


def _flipped(name: str, examples: Any) -> np.ndarray:
    """bool [examples]. Raises ConfigError where no label is wrong."""
    found = getattr(examples, "flipped", np.zeros(0, bool))
    if not found.any():
        raise ConfigError(
            f"evals.sets.{name}.split=flipped: no label is wrong; give data.label_noise, or take "
            "the set away"
        )
    return found


def _data(config: RunConfig, name: str | None) -> Any:
    """The data of the run, or of an evaluation set."""
    if name is None:
        return config.data
    one = config.evals.sets[name]
    return dataclasses.replace(eval_data(config.data, one), corpus=one.corpus)


def _order(examples: Examples, most: int | None = None) -> np.ndarray:
    """Every example, in the one order from which subsets are taken, or the first of them. Of data
    that have no end that is the order of their numbers: one draw is as good as another.
    """
    if len(examples) >= contracts.ENDLESS:
        return np.arange(resolved(most))
    return nested(len(examples))[:most]


def _subset(config: RunConfig, examples: Examples) -> np.ndarray | range:
    """The examples of the nested training subset: the first of the order, so that sizes nest. A
    range is drawn from without end.
    """
    unique = config.data.unique_units
    if unique is None and len(examples) >= contracts.ENDLESS:
        return range(contracts.ENDLESS)
    most = None if unique is None else unique // config.data.units_per_example
    if config.train.subset_seed is None:
        return _order(examples, most)
    if len(examples) >= contracts.ENDLESS:
        raise ConfigError(
            "train.subset_seed: these data have no end, and a subset of them is one of many as it "
            "is; leave it out"
        )
    return permutation(len(examples), ("subset", config.train.subset_seed))[:most]


def _seen(config: RunConfig, subset: np.ndarray | range) -> np.ndarray:
    """The examples of the subset that the run meets, all of them if it lasts an epoch."""
    rows = resolved(config.train.steps) * config.train.batch_size
    met = rows - int(rows * sum(config.mixture.shares.values()))
    if isinstance(subset, range):
        return endless(resolved(config.data.seed), np.arange(met))
    if config.federated.clients is not None:
        return subset  # every client has its turns
    order = permutation(len(subset), ("epoch", resolved(config.data.seed), 0))
    return subset[order[:met]]


def _check_disjoint(config: RunConfig, name: str, root: Path | None) -> None:
    """That nothing of an evaluation set is trained on."""
    split, own = config.evals.sets[name].split, _data(config, name)
    trained_on = [config.data, *(_data(config, other) for other in config.mixture.shares)]
    with source_named(f"evals.sets.{name}"):
        shared = sum(
            choices.kind(config.data).shared(own, split, one, root or files.data_dir())
            for one in trained_on
        )
    if shared:
        validation = f"set evals.sets.{name}.split to validation, or " if split == "all" else ""
        raise DataError(
            f"evals.sets.{name}.split={split}: {shared} of its examples are in the train split of "
            f"data.source={config.data.source}; {validation}give a source that data.source does "
            "not match"
        )
