"""From a config to a run: everything that follows from something else is filled in, once.

Takes a RunConfig with open fields and two functions that know the corpus and the model's size;
gives the RunConfig with none left: derived sizes, vocabulary, corpus hashes, number of steps.
Called by `scaling/studies/study.py`, which brings the two functions. No jax in this file.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from scaling.config import (
    FAMILIES_OF,
    LENGTHS,
    DataConfig,
    EvalSetConfig,
    MeshConfig,
    MoEConfig,
    OptimConfig,
    RunConfig,
    TransformerConfig,
    flat,
    from_dict,
    to_dict,
)
from scaling.errors import ConfigError, DataError, SourceError


@dataclass(frozen=True)
class CorpusFacts:
    """What `resolve` must know of a prepared corpus (`scaling.data.describe`)."""

    content_hash: str  # of the manifest: documents, split, tokenizer
    vocab: int  # tokens of its tokenizer, the document separator included
    train_tokens: int  # tokens of the train split, in whole windows of seq_len
    validation_tokens: int  # likewise, of the validation split


@dataclass(frozen=True)
class ModelSize:
    """Counts of a resolved model (`scaling.config.ladder.size` gives it in closed form)."""

    params: int  # all parameters
    params_non_embedding: int  # without the token embedding (and without an untied head)
    params_active: int  # all but the experts that a token is not sent to
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
      ConfigError: a value out of its range, a field that another one makes idle, a size that does
        not divide, more or fewer than one training length, a warm-up as long as the run, a family
        that the objective cannot train, a corpus other than the one that `data.corpus` pins, a
        subset larger than the corpus.
    """
    # As read from a file: a config built in code may hold an int where a float is meant.
    config = from_dict(to_dict(config))
    families = FAMILIES_OF[config.objective.name]
    if config.model.family not in families:
        raise ConfigError(
            f"objective.name={config.objective.name} trains {', '.join(families)}, not "
            f"model.family={config.model.family}"
        )
    _check_ranges(config)
    _check_idle(config)
    with source_named("data"):
        facts = corpus_of(config.data, config.data)
    data = _resolve_data(config.data, facts, config.seed)
    sets = {
        name: _resolve_eval_set(name, s, config.data, corpus_of)
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
        model=resolve_transformer(config.model, facts.vocab),
        data=data,
        evals=dataclasses.replace(config.evals, sets=sets),
    )
    steps = _resolve_steps(config, facts, size_of)
    lengths: dict[str, Any] = dict.fromkeys(LENGTHS) | {"steps": steps}
    train = dataclasses.replace(config.train, **lengths)
    return dataclasses.replace(config, train=train, optim=_resolve_warmup(config.optim, steps))


_MESH_AXES = tuple(axis.name for axis in dataclasses.fields(MeshConfig))
_SIZES = ("width", "depth", "heads", "kv_heads", "head_dim", "mlp_width")
_RHYTHM = (
    *("steps_per_call", "log_every", "checkpoint_every", "keep_checkpoints", "profile_steps"),
    *("fingerprint_every", "watch_every"),
)
_AT_LEAST_ONE = (lambda v: v >= 1, "be at least 1")
_POSITIVE = (lambda v: v > 0, "be positive")
_POSITIVE_OR_OFF = (lambda v: v > 0, "be positive, or unset for off")
_NOT_NEGATIVE = (lambda v: v >= 0, "not be negative")
_SHARE = (lambda v: 0 <= v <= 1, "lie between 0 and 1")
_DECAY = (lambda v: 0 <= v < 1, "be at least 0 and below 1")
_SEED = (lambda v: 0 <= v < 2**32, "be at least 0 and below 2^32")

# Group, fields, and what their values must be where they are given.
_RANGES: tuple[tuple[str, tuple[str, ...], tuple[Callable[[float], bool], str]], ...] = (
    ("model", (*_SIZES, "window"), _AT_LEAST_ONE),
    ("model", ("pipeline_microbatches", "pipeline_repeats"), _AT_LEAST_ONE),
    ("model", ("moe.per_token", "moe.width"), _AT_LEAST_ONE),
    ("model", ("moe.experts", "moe.shared"), _NOT_NEGATIVE),
    ("model", ("moe.capacity_factor",), _POSITIVE_OR_OFF),
    ("model", ("rope_theta", "norm_eps", "init_scale"), _POSITIVE),
    ("model", ("logit_softcap",), _POSITIVE_OR_OFF),
    ("data", ("seq_len", "bpe_vocab"), _AT_LEAST_ONE),
    ("data", ("validation_fraction",), (lambda v: 0 < v < 1, "lie between 0 and 1")),
    ("data", ("seed",), _SEED),
    ("objective", ("z_loss", "load_balance", "router_z"), _NOT_NEGATIVE),
    ("objective", ("chunk",), _AT_LEAST_ONE),
    ("optim", ("peak_lr", "weight_decay", "warmup_steps"), _NOT_NEGATIVE),
    ("optim", ("warmup_fraction", "decay_fraction", "final_lr_fraction"), _SHARE),
    ("optim", ("b1", "b2", "ema_decay"), _DECAY),
    ("optim", ("eps",), _POSITIVE),
    ("optim", ("clip_norm",), _POSITIVE_OR_OFF),
    ("mesh", _MESH_AXES, _AT_LEAST_ONE),
    ("distributed", ("timeout",), _AT_LEAST_ONE),
    ("train", ("batch_size", "microbatches", *_RHYTHM), _AT_LEAST_ONE),
    ("train", ("profile_start",), _NOT_NEGATIVE),
    ("train", ("spike_z",), _POSITIVE_OR_OFF),
    ("train", ("spike_window",), (lambda v: v >= 8, "be at least 8")),
    ("evals", ("every", "batches", "batch_size"), _AT_LEAST_ONE),
)


def _check_ranges(config: RunConfig) -> None:
    values = flat(config)
    for group, fields, (holds, must) in _RANGES:
        for name in (f"{group}.{field}" for field in fields):
            if values.get(name) is not None and not holds(values[name]):
                raise ConfigError(f"{name}={values[name]} must {must}")
    if not _SEED[0](config.seed):
        raise ConfigError(f"seed={config.seed} must {_SEED[1]}")
    if config.train.batch_size % config.train.microbatches:
        raise ConfigError(
            f"train.batch_size={config.train.batch_size} is not divisible by train.microbatches="
            f"{config.train.microbatches}"
        )


_IDLE_WITHOUT_EXPERTS = (
    *(f"model.moe.{f.name}" for f in dataclasses.fields(MoEConfig) if f.name != "experts"),
    *("objective.load_balance", "objective.router_z"),
)
# Fields that nothing reads unless others have certain values, whether they have, and which those
# are. Away from its default such a field would give one run two names, and change nothing.
_READ_WITH: tuple[tuple[tuple[str, ...], Callable[[RunConfig], bool], str], ...] = (
    (_IDLE_WITHOUT_EXPERTS, lambda c: c.model.moe.experts > 0, "model.moe.experts"),
    (  # with expert_choice every expert has the same share, so that the penalty is a constant
        ("objective.load_balance",),
        lambda c: c.model.moe.router == "top_k",
        "model.moe.router=top_k",
    ),
    (("data.bpe_vocab",), lambda c: c.data.tokenizer == "bpe", "data.tokenizer=bpe"),
    (("optim.b2",), lambda c: c.optim.name != "sgd", "optim.name=adamw, adafactor or lion"),
    (
        ("optim.eps",),
        lambda c: c.optim.name in ("adamw", "adafactor"),
        "optim.name=adamw or adafactor",
    ),
    (("optim.decay_fraction",), lambda c: c.optim.schedule == "wsd", "optim.schedule=wsd"),
    (
        ("optim.final_lr_fraction",),
        lambda c: c.optim.schedule in ("cosine", "linear", "wsd"),
        "optim.schedule=cosine, linear or wsd",
    ),
    (("train.spike_window",), lambda c: c.train.spike_z is not None, "train.spike_z"),
)


def _check_idle(config: RunConfig) -> None:
    values, defaults = flat(config), flat(RunConfig())
    for names, is_read, needed in _READ_WITH:
        for name in names:
            default = defaults[name]
            if values[name] != default and not is_read(config):
                rest = "leave it unset" if default is None else f"leave it at {default}"
                raise ConfigError(
                    f"{name}={values[name]} changes nothing without {needed}; give that, or {rest}"
                )


def resolve_transformer(model: TransformerConfig, vocab: int) -> TransformerConfig:
    """The model with its vocabulary and derived sizes filled in. Raises ConfigError."""
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
        moe=_resolve_moe(model.moe, model.mlp_width or default_mlp),
    )


def _resolve_moe(moe: MoEConfig, mlp_width: int) -> MoEConfig:
    if not moe.experts:
        return moe
    if moe.per_token > moe.experts:
        raise ConfigError(
            f"model.moe.per_token={moe.per_token} is more than model.moe.experts={moe.experts}"
        )
    factor = moe.capacity_factor
    if moe.router == "expert_choice" and factor is None:
        factor = 1.0  # every token has per_token experts on average
    return dataclasses.replace(moe, width=moe.width or mlp_width, capacity_factor=factor)


@contextlib.contextmanager
def source_named(group: str) -> Iterator[None]:
    """Names the field of the config that an error about a source comes from: `group` is "data" or
    an evaluation set. Raises DataError for a SourceError.
    """
    try:
        yield
    except SourceError as error:
        raise DataError(f"{group}.{error.member}: {error}") from error


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
    try:
        with source_named(f"evals.sets.{name}"):
            facts = corpus_of(eval_data(data, eval_set), data)
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
