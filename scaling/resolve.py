"""From a config to a run: everything that follows from something else is filled in, once.

Takes a RunConfig with open fields and two functions that know the corpus and the model's size;
gives the RunConfig with none left: derived sizes, vocabulary, corpus hashes, number of steps.
Called by `scaling/study.py`, which brings the two functions. No jax in this file.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scaling.config import (
    FAMILIES_OF,
    LENGTHS,
    DataConfig,
    EvalSetConfig,
    OptimConfig,
    RunConfig,
    TransformerConfig,
    to_dict,
)
from scaling.errors import ConfigError


@dataclass(frozen=True)
class CorpusFacts:
    """What `resolve` must know of a prepared corpus (`scaling.data.describe`)."""

    content_hash: str  # of the manifest: documents, split, tokenizer
    vocab: int  # tokens of its tokenizer, the document separator included
    train_tokens: int  # tokens of the train split, in whole windows of seq_len
    validation_tokens: int  # likewise, of the validation split


@dataclass(frozen=True)
class ModelSize:
    """Counts of a resolved model (`scaling.ladder.size` gives it in closed form)."""

    params: int  # all parameters
    params_non_embedding: int  # without the token embedding (and without an untied head)
    flops_per_token: (
        float  # training: forward and backward, the attention included, at data.seq_len
    )


def resolve(
    config: RunConfig,
    corpus_of: Callable[[DataConfig, DataConfig], CorpusFacts],
    size_of: Callable[[RunConfig], ModelSize],
) -> RunConfig:
    """The run with nothing left open.

    Pure but for what `corpus_of(data, train_data)` reads: the facts of the corpus of `data`, as
    tokenized for a run that trains on `train_data`. Idempotent: resolve(resolve(c)) == resolve(c).

    Raises:
      ConfigError: a size that does not divide, more or fewer than one training length, a family
        that the objective cannot train, a corpus other than the one that `data.corpus` pins, a
        subset larger than the corpus.
    """
    families = FAMILIES_OF[config.objective.name]
    if config.model.family not in families:
        raise ConfigError(
            f"objective.name={config.objective.name} trains {', '.join(families)}, not "
            f"model.family={config.model.family}"
        )
    _check_ranges(config)
    facts = corpus_of(config.data, config.data)
    data = _resolve_data(config.data, facts, config.seed)
    sets = {
        name: _resolve_eval_set(name, s, config.data, corpus_of)
        for name, s in config.evals.sets.items()
    }
    if "val" not in sets:
        raise ConfigError('evals.sets must keep the set "val", the in-distribution validation set')
    config = dataclasses.replace(
        config,
        model=_resolve_transformer(config.model, facts.vocab),
        data=data,
        evals=dataclasses.replace(config.evals, sets=sets),
    )
    steps = _resolve_steps(config, facts, size_of)
    lengths: dict[str, Any] = dict.fromkeys(LENGTHS) | {"steps": steps}
    train = dataclasses.replace(config.train, **lengths)
    return dataclasses.replace(config, train=train, optim=_resolve_warmup(config.optim, steps))


def _check_ranges(config: RunConfig) -> None:
    at_least_one = {
        "model.width": config.model.width,
        "model.depth": config.model.depth,
        "model.heads": config.model.heads,
        "data.seq_len": config.data.seq_len,
        "train.batch_size": config.train.batch_size,
        "train.microbatches": config.train.microbatches,
        "train.steps_per_call": config.train.steps_per_call,
        "train.log_every": config.train.log_every,
        "train.keep_checkpoints": config.train.keep_checkpoints,
        "train.checkpoint_every": config.train.checkpoint_every,
        "evals.every": config.evals.every,
        "evals.batches": config.evals.batches,
        "evals.batch_size": config.evals.batch_size,
    } | {f"mesh.{axis}": size for axis, size in to_dict(config.mesh).items()}
    for name, value in at_least_one.items():
        if value is not None and value < 1:
            raise ConfigError(f"{name}={value} must be at least 1")
    if config.train.batch_size % config.train.microbatches:
        raise ConfigError(
            f"train.batch_size={config.train.batch_size} is not divisible by train.microbatches="
            f"{config.train.microbatches}"
        )
    if not 0 < config.data.validation_fraction < 1:
        raise ConfigError(
            f"data.validation_fraction={config.data.validation_fraction} must lie between 0 and 1"
        )


def _resolve_transformer(model: TransformerConfig, vocab: int) -> TransformerConfig:
    if model.vocab is not None and model.vocab != vocab:
        raise ConfigError(
            f"model.vocab={model.vocab}, but the tokenizer has {vocab} tokens; leave model.vocab "
            "unset"
        )
    kv_heads = model.kv_heads or model.heads
    if model.heads % kv_heads:
        raise ConfigError(
            f"model.heads={model.heads} is not divisible by model.kv_heads={kv_heads}"
        )
    if model.head_dim is None and model.width % model.heads:
        raise ConfigError(
            f"model.width={model.width} is not divisible by model.heads={model.heads}; "
            "change either, or give model.head_dim"
        )
    head_dim = model.head_dim or model.width // model.heads
    if head_dim % 2:
        raise ConfigError(
            f"model.head_dim={head_dim} must be even: rotary positions turn pairs of channels"
        )
    default_mlp = 4 * model.width if model.mlp == "plain" else -(-8 * model.width // 48) * 16
    return dataclasses.replace(
        model,
        vocab=vocab,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mlp_width=model.mlp_width or default_mlp,
    )


def _resolve_data(data: DataConfig, facts: CorpusFacts, run_seed: int) -> DataConfig:
    if data.corpus is not None and data.corpus != facts.content_hash:
        raise ConfigError(
            f"data.corpus={data.corpus} is pinned, but the corpus at hand is "
            f"{facts.content_hash}: another Python "
            "version or other files. Run where the pinned corpus is, or leave data.corpus unset"
        )
    if (
        data.unique_tokens is not None
        and not data.seq_len <= data.unique_tokens <= facts.train_tokens
    ):
        raise ConfigError(
            f"data.unique_tokens={data.unique_tokens} must lie between one window "
            f"({data.seq_len}) and the train "
            f"split ({facts.train_tokens} tokens)"
        )
    seed = run_seed if data.seed is None else data.seed
    return dataclasses.replace(data, corpus=facts.content_hash, seed=seed)


def eval_data(data: DataConfig, eval_set: EvalSetConfig) -> DataConfig:
    """The corpus that an evaluation set is drawn from: the training corpus with the set's source
    and part.
    """
    if eval_set.source is None and eval_set.part is None:
        return data
    source = data.source if eval_set.source is None else eval_set.source
    return dataclasses.replace(data, source=source, part=eval_set.part, corpus=eval_set.corpus)


def _resolve_eval_set(
    name: str,
    eval_set: EvalSetConfig,
    data: DataConfig,
    corpus_of: Callable[[DataConfig, DataConfig], CorpusFacts],
) -> EvalSetConfig:
    facts = corpus_of(eval_data(data, eval_set), data)
    if eval_set.corpus is not None and eval_set.corpus != facts.content_hash:
        raise ConfigError(
            f"evals.sets.{name}.corpus={eval_set.corpus} is pinned, but at hand is "
            f"{facts.content_hash}"
        )
    return dataclasses.replace(eval_set, corpus=facts.content_hash)


def _resolve_steps(
    config: RunConfig, facts: CorpusFacts, size_of: Callable[[RunConfig], ModelSize]
) -> int:
    train = config.train
    given = {name: getattr(train, name) for name in LENGTHS if getattr(train, name) is not None}
    if len(given) != 1:
        what = ", ".join(f"train.{name}={value}" for name, value in given.items()) or "none"
        raise ConfigError(
            f"give exactly one training length of {', '.join(LENGTHS)}; given: {what}"
        )
    (name, amount), size = *given.items(), size_of(config)
    if amount <= 0:
        raise ConfigError(f"train.{name}={amount} must be positive")
    if name == "steps":
        return int(amount)
    tokens = {
        "tokens": amount,
        "epochs": amount * (config.data.unique_tokens or facts.train_tokens),
        "flops": amount / size.flops_per_token,
        "tokens_per_param": amount * size.params,
    }[name]
    return max(1, round(tokens / (train.batch_size * config.data.seq_len)))


def _resolve_warmup(optim: OptimConfig, steps: int) -> OptimConfig:
    if optim.warmup_steps is not None:
        return dataclasses.replace(optim, warmup_fraction=None)
    fraction = optim.warmup_fraction or 0.0
    if not 0 <= fraction <= 1:
        raise ConfigError(f"optim.warmup_fraction={fraction} must lie between 0 and 1")
    return dataclasses.replace(optim, warmup_steps=round(fraction * steps), warmup_fraction=None)
