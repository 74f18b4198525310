"""From a config as written to the run as trained: every value that follows from others is filled.

Takes a `RunConfig` with open fields and two functions that know the data and the model's size;
gives the RunConfig with none left: derived sizes, content hashes, number of steps. Called by
`scaling/studies/study.py`, which brings the two functions. No jax in this file.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from scaling.config import amounts, choices, contracts, passes
from scaling.config.checks import check_idle, check_parametrization, check_ranges
from scaling.config.choices import DataConfig
from scaling.config.contracts import Facts, Size
from scaling.config.identity import is_fingerprint
from scaling.config.pairs import check_pairs
from scaling.config.reading import from_dict, to_dict
from scaling.config.run import LENGTHS, EvalSetConfig, OptimConfig, RunConfig
from scaling.errors import ConfigError, DataError, SourceError

FactsOf = Callable[[Any, Any], Facts]  # (data, that of the training run)


def resolve(
    config: RunConfig, facts_of: FactsOf, size_of: Callable[[RunConfig], Size]
) -> RunConfig:
    """The run with nothing left open.

    Pure but for what `facts_of(data, train_data)` reads: the facts of `data`, as prepared for a run
    that trains on `train_data`. Idempotent: resolve(resolve(c)) == resolve(c).

    Raises:
      ConfigError: a value out of its range, a field that another one makes idle, a size that does
        not divide, more or fewer than one training length, a warm-up as long as the run, a family
        that does not give what the objective or an evaluation set needs, other data than those that
        `data.corpus` pins, a subset larger than the data.
    """
    # As read from a file: a config built in code may hold an int where a float is meant.
    config = from_dict(to_dict(config))
    # A share of nothing is none: one run has one name.
    shares = {name: share for name, share in config.mixture.shares.items() if share != 0}
    config = dataclasses.replace(config, mixture=dataclasses.replace(config.mixture, shares=shares))
    check_pairs(config)
    check_ranges(config)
    check_idle(config)
    check_parametrization(config)
    if config.begins.run is not None and not is_fingerprint(config.begins.run):
        raise ConfigError(
            f"begins.run={config.begins.run} is no run's fingerprint (12 hex digits) and no run "
            "directory; give one of those in <workdir>/runs"
        )
    with source_named("data"):
        facts = facts_of(config.data, config.data)
    data = _resolve_data(config.data, facts, config.seed)
    sets = {
        name: _resolve_eval_set(name, s, config.data, facts_of)
        for name, s in config.evals.sets.items()
    }
    if "val" not in sets:
        raise ConfigError('evals.sets must keep the set "val", the in-distribution validation set')
    if "train" in sets:
        raise ConfigError(
            'evals.sets.train: "train" names the training batches in metrics.jsonl; give the set '
            'another name, such as "train_eval"'
        )
    config = dataclasses.replace(
        config,
        model=choices.family(config.model).resolve(config.model, facts),
        data=data,
        evals=dataclasses.replace(config.evals, sets=sets),
    )
    sets = {name: passes.filled(config, one) for name, one in sets.items()}
    config = dataclasses.replace(config, evals=dataclasses.replace(config.evals, sets=sets))
    passes.check(config)
    steps = _resolve_steps(config, facts, size_of)
    lengths: dict[str, Any] = dict.fromkeys(LENGTHS) | {"steps": steps}
    train = dataclasses.replace(config.train, **lengths)
    return dataclasses.replace(config, train=train, optim=_resolve_warmup(config.optim, steps))


@contextlib.contextmanager
def source_named(group: str) -> Iterator[None]:
    """Names the field of the config that an error about a source comes from: `group` is "data" or
    an evaluation set. Raises DataError for a SourceError.
    """
    try:
        yield
    except SourceError as error:
        raise DataError(f"{group}.{error.member}: {error}") from error


def _resolve_data(data: DataConfig, facts: Facts, run_seed: int) -> DataConfig:
    if data.corpus is not None and data.corpus != facts.content_hash:
        raise ConfigError(
            f"data.corpus={data.corpus} is pinned, but the corpus at hand is "
            f"{facts.content_hash}: another Python "
            "version or other files. Run where the pinned corpus is, or leave data.corpus unset"
        )
    filled = choices.kind(data).resolve(data, facts)
    per_example = filled.units_per_example
    whole = facts.train_examples * per_example
    if filled.unique_units is not None and not per_example <= filled.unique_units <= whole:
        raise ConfigError(
            f"{amounts.unique_field(data)}={filled.unique_units} must lie between one example "
            f"({per_example}) and the train split ({whole} {data.unit}s)"
        )
    seed = run_seed if data.seed is None else data.seed
    return dataclasses.replace(filled, corpus=facts.content_hash, seed=seed)


# What an evaluation set may have otherwise than the data that are trained on, but for its source.
_OTHERWISE = ("part", "corruption", "severity", "permutation", "labels")


def eval_data(data: DataConfig, eval_set: EvalSetConfig) -> Any:
    """The data that an evaluation set is drawn from: those of training with the set's source, part,
    corruption and so on. Raises ConfigError for what the data have none of.
    """
    given = {name: value for name in _OTHERWISE if (value := getattr(eval_set, name)) is not None}
    for name, value in given.items():
        if name not in data.__dataclass_fields__:
            rest = "give a source instead" if name == "part" else "leave it unset"
            raise ConfigError(
                f"evals.sets: {name}={value!r}, but data.kind={data.kind} has none; {rest}"
            )
    if "corruption" in given and "severity" in data.__dataclass_fields__:
        given.setdefault("severity", 3)
    elif "corruption" not in given:
        given.pop("severity", None)
    if eval_set.source is not None:
        given["source"] = eval_set.source
        if "part" in data.__dataclass_fields__:
            given.setdefault("part", None)
    return dataclasses.replace(data, corpus=eval_set.corpus, **given) if given else data


def _resolve_eval_set(
    name: str,
    eval_set: EvalSetConfig,
    data: DataConfig,
    facts_of: FactsOf,
) -> EvalSetConfig:
    try:
        with source_named(f"evals.sets.{name}"):
            facts = facts_of(eval_data(data, eval_set), data)
    except DataError as error:
        if eval_set.source is not None or eval_set.part is None:
            raise
        raise DataError(
            f"{error}; it is a part of the training corpus that is meant. Give evals.sets.{name}."
            f'source, or delete the set: with base.unlocked(): del base.evals.sets["{name}"]'
        ) from error
    if eval_set.corpus is not None and eval_set.corpus != facts.content_hash:
        raise ConfigError(
            f"evals.sets.{name}.corpus={eval_set.corpus} is pinned, but at hand is "
            f"{facts.content_hash}"
        )
    return dataclasses.replace(eval_set, corpus=facts.content_hash)


def _resolve_steps(config: RunConfig, facts: Facts, size_of: Callable[[RunConfig], Size]) -> int:
    train, data = config.train, config.data
    given = {name: getattr(train, name) for name in LENGTHS if getattr(train, name) is not None}
    if len(given) != 1:
        what = ", ".join(f"train.{name}={value}" for name, value in given.items()) or "none"
        raise ConfigError(
            f"give exactly one training length of {', '.join(LENGTHS)}; given: {what}"
        )
    ((name, amount),) = given.items()
    if amount <= 0:
        raise ConfigError(f"train.{name}={amount} must be positive")
    if name == "steps":
        return int(amount)
    if name.startswith("tokens") and data.unit != "token":
        raise ConfigError(
            f"train.{name}={amount}, but data.kind={data.kind} is counted in {data.unit}s; give "
            f"train.{name.replace('tokens', 'units')}"
        )
    if name == "epochs":
        if facts.train_examples >= contracts.ENDLESS and not data.unique_units:
            raise ConfigError(
                f"train.epochs={amount}, but the train split has no end; give train.units, or "
                f"{amounts.unique_field(data)}"
            )
        whole = facts.train_examples * data.units_per_example
        return amounts.steps_of(config, amount * (data.unique_units or whole))
    if name in ("tokens", "units"):
        return amounts.steps_of(config, amount)
    size = size_of(config)
    share = amount / size.flops_per_unit if name == "flops" else amount * size.params
    return amounts.steps_of(config, share)


def _resolve_warmup(optim: OptimConfig, steps: int) -> OptimConfig:
    warmup, given = optim.warmup_steps, f"optim.warmup_steps={optim.warmup_steps}"
    if warmup is None:
        warmup = round((optim.warmup_fraction or 0.0) * steps)
        given = f"optim.warmup_fraction={optim.warmup_fraction}"
    if warmup >= steps:
        raise ConfigError(
            f"{given} warms up for {warmup} of the run's {steps} updates (train.steps={steps}), so "
            "that the learning rate never holds its peak or decays; warm up for fewer, or train "
            "longer"
        )
    return dataclasses.replace(optim, warmup_steps=warmup, warmup_fraction=None)
