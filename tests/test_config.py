"""Configs are strict both ways, resolve fills everything once, and a fingerprint means one run."""

import dataclasses
import functools
import json
import operator
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling import config as config_lib
from scaling.config import (
    EvalSetConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
    base_config,
    choices,
    fingerprint,
    flat,
    from_dict,
    override,
    run_name,
    to_dict,
)
from scaling.config.contracts import Facts
from scaling.config.nested import from_text
from scaling.config.resolve import eval_data, resolve
from scaling.costs import sizes
from scaling.data.kinds.text import TextConfig
from scaling.errors import ConfigError

TRAIN_TOKENS = 2**20


def facts(data: TextConfig, train_data: TextConfig) -> Facts:
    """A corpus of bytes; its hash tells which data were asked for, by whom."""
    name = f"{data.source}-{data.part}-{train_data.source}"
    length = data.seq_len
    return Facts(name, TRAIN_TOKENS // length, 2**16 // length, {"vocab": 257})


def resolved(**overrides: Any) -> RunConfig:
    """The default run with ten steps and the overrides (dots written as __), resolved."""
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    lengths = {f"train.{name}" for name in config_lib.LENGTHS}
    start = {} if lengths & set(dotted) else {"train.steps": 10}
    return resolve(override(RunConfig(), start | dotted), facts, sizes.size)


# ---- every field, by reflection


def hint_of(path: str) -> tuple[Any, bool]:
    """(type, may it be None) of a dotted field."""
    hint: Any = RunConfig
    for key in path.split("."):
        if typing.get_origin(hint) is not None:  # Mapping[str, dataclass]
            hint = typing.get_args(hint)[1]
        elif hint is RunConfig and key in choices.ROOMS:
            hint = type(choices.new(key))
        else:
            hint = typing.get_type_hints(hint)[key]
    args = typing.get_args(hint)
    if type(None) in args:
        return next(a for a in args if a is not type(None)), True
    return hint, False


def other_value(path: str, value: Any) -> Any:
    """A value of the right type that differs from `value`; None if there is no other."""
    hint, _ = hint_of(path)
    if typing.get_origin(hint) is Literal:
        return next((c for c in typing.get_args(hint) if c != value), None)
    if hint is bool:
        return not value
    if hint is str:
        return f"{value}-other"
    return hint(0.5 if hint is float else 2) + (value or 0)


FIELDS = flat(RunConfig())
CHANGEABLE = {p: v for p, old in FIELDS.items() if (v := other_value(p, old)) is not None}
# Written out, not read from the metadata: this list says what may change without a new run.
EXECUTION = {
    *("model.remat", "model.scan_layers", "model.attention", "model.context_parallel"),
    *("model.pipeline_microbatches", "model.pipeline_repeats", "objective.chunk"),
    *(f"distributed.{name}" for name in ("coordinator", "processes", "process", "timeout")),
    *(
        f"mesh.{a}"
        for a in (["replica", "data", "fsdp", "seq", "tensor", "expert", "stage", "trial"])
    ),
    "train.microbatches",
    "train.noise_scale",
    "train.steps_per_call",
    "train.log_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.fingerprint_every",
    "train.watch_every",
    "train.profile_start",
    "train.profile_steps",
    "train.xla_flags",
    "optim.offload",
    "begins.folder",
    "distill.teacher",
    *("energy.pue", "energy.watts", "energy.grams_per_kwh"),
}


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Any value that a type hint of config.py allows."""
    args = typing.get_args(hint)
    if type(None) in args:
        return st.none() | values_of(next(a for a in args if a is not type(None)))
    if isinstance(hint, types.UnionType):
        return st.one_of(map(values_of, args))
    if typing.get_origin(hint) is Literal:
        return st.sampled_from(args)
    if typing.get_origin(hint) is not None:
        return st.dictionaries(st.text("abc", min_size=1), values_of(args[1]), max_size=3)
    if dataclasses.is_dataclass(hint):
        own = typing.get_type_hints(hint)
        hints = {one.name: own[one.name] for one in dataclasses.fields(hint)}
        if hint is RunConfig:  # any of the families, kinds of data and objectives
            for group in choices.ROOMS:
                known = [choices.record(group, name).config for name in choices.registry(group)]
                hints[group] = (
                    known[0] if len(known) == 1 else functools.reduce(operator.or_, known)
                )
        return st.builds(typing.cast(Any, hint), **{k: values_of(h) for k, h in hints.items()})
    plain: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(),
        float: st.floats(allow_nan=False, allow_infinity=False),
        str: st.text(),
    }
    return plain[hint]


@settings(max_examples=50, deadline=None)
@given(values_of(RunConfig))
def test_any_config_survives_a_dict_and_json(config: RunConfig) -> None:
    assert from_dict(to_dict(config)) == config
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    assert override(config, {}) == config


def test_the_base_config_dict_is_the_defaults() -> None:
    assert from_dict(base_config()) == RunConfig() == from_dict({})
    assert set(flat(RunConfig())) == set(FIELDS)
    assert list(FIELDS) == sorted(FIELDS)


def test_every_field_can_be_set_in_the_config_dict_and_on_the_command_line() -> None:
    assert set(FIELDS) - set(CHANGEABLE) <= {
        f"{group}.{room.field}" for group, room in choices.ROOMS.items()
    }
    expected = override(RunConfig(), CHANGEABLE)
    assert {p for p, v in flat(expected).items() if v != FIELDS[p]} == set(CHANGEABLE)

    config = base_config()
    config.update_from_flattened_dict(CHANGEABLE)
    assert from_dict(config) == expected

    typed = {path: from_text(RunConfig(), path, str(value)) for path, value in CHANGEABLE.items()}
    assert override(RunConfig(), typed) == expected


def test_every_optional_field_can_be_unset_again() -> None:
    optional = {path: None for path in FIELDS if hint_of(path)[1]}
    assert len(optional) > 15
    config = base_config()
    config.update_from_flattened_dict({p: CHANGEABLE[p] for p in optional})
    config.update_from_flattened_dict(optional)
    unset = flat(from_dict(config))
    assert [path for path in optional if unset[path] is not None] == []
    assert {from_text(RunConfig(), path, "None") for path in optional} == {None}


# ---- strictness


@pytest.mark.parametrize(
    ("path", "text", "error"),
    [
        ("model.widht", "3", 'model.widht is no config field (did you mean "width"?)'),
        ("evals.sets.seen.split", "all", "evals.sets.seen is no config field (known: val)"),
        ("seed.a", "1", "seed.a: seed is no group of fields"),
        ("train.steps", "ten", "train.steps=ten has the wrong type: int or None wanted"),
        ("model.width", "None", "model.width=None has the wrong type: int wanted"),
        ("model.tie_embeddings", "2", "model.tie_embeddings=2 has the wrong type: bool wanted"),
    ],
)
def test_text_that_is_no_value_of_a_field_names_the_whole_field(path, text, error) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(error)}$"):
        from_text(RunConfig(), path, text)


def test_a_whole_number_may_be_typed_as_a_power_of_ten() -> None:
    typed = from_text(RunConfig(), "train.steps", "1e3")
    assert override(RunConfig(), {"train.steps": typed}).train.steps == 1000


@pytest.mark.parametrize("path", FIELDS)
def test_a_wrong_type_names_the_field(path: str) -> None:
    hint, optional = hint_of(path)
    wrong: list[Any] = [[1], {"a": 1}, object()]
    wrong += {
        str: [1, True],
        bool: [1, "true"],
        int: [True, "1", 1.5, float("inf")],
        float: [True, "1", float("nan"), float("inf")],
    }.get(hint, ["none of these", 1])
    wrong += [] if optional else [None]
    for value in wrong:
        nested: Any = value
        for key in reversed(path.split(".")):
            nested = {key: nested}
        with pytest.raises(ConfigError) as caught:
            from_dict(nested)
        assert str(caught.value).startswith(path), (value, caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modle": {}}, 'modle is no config field .did you mean "model"'),
        ({"model": {"widht": 1}}, 'model.widht is no config field .did you mean "width"'),
        ({"optim": {"xyzzy": 1}}, r"optim.xyzzy is no config field \(known: b1, b2, "),
        ({"evals": {"sets": {"val": {"splat": "all"}}}}, 'evals.sets.val.splat .*mean "split"'),
        ({"model": {"family": "transfomer"}}, 'model.family=.*did you mean "transformer"'),
        ({"optim": {"schedule": "cosin"}}, 'optim.schedule=.*did you mean "cosine"'),
        ({"model": 3}, "model must be a group of fields"),
        ({"evals": {"sets": ["val"]}}, "evals.sets must be a mapping"),
    ],
)
def test_an_unknown_key_or_choice_names_the_nearest(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(values)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.widht": 1}, 'model.widht is no config field .did you mean "width"'),
        ({"modle.width": 1}, 'modle is no config group .did you mean "model"'),
        ({"model.width.x": 1}, "model.width is no config group"),
        ({"optim": {"b1": 0.8}}, "optim is a group of fields; name one, such as optim.b1"),
        ({"evals.sets.ood.source": "x"}, "evals.sets.ood is no config group"),
        ({"model.width": "wide"}, "model.width='wide' has the wrong type"),
    ],
)
def test_overrides_are_as_strict(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(RunConfig(), overrides)


def test_overrides_change_what_they_name_and_can_add_an_evaluation_set() -> None:
    config = override(RunConfig(), {"model.width": 512, "evals.sets.docs": {"part": "docs"}})
    changed = {p for p, v in flat(config).items() if FIELDS.get(p, "new") != v}
    docs = {f"evals.sets.docs.{f.name}" for f in dataclasses.fields(EvalSetConfig)}
    assert changed == {"model.width"} | docs
    assert config.evals.sets["docs"] == EvalSetConfig(part="docs")
    assert RunConfig().evals.sets == {"val": EvalSetConfig()}


@pytest.mark.parametrize("key", ["model.widht", "modle", "train.step", "evals.sets.vla"])
def test_the_locked_config_dict_refuses_a_typo(key: str) -> None:
    config = base_config()
    with pytest.raises(KeyError, match=key.split(".")[-1]):
        config.update_from_flattened_dict({key: 1})
    *groups, leaf = key.split(".")
    for group in groups:
        config = config[group]
    with pytest.raises(AttributeError, match=leaf):
        setattr(config, leaf, 1)


def test_the_locked_config_dict_refuses_a_wrong_type() -> None:
    config = base_config()
    with pytest.raises(TypeError):
        config.model.width = "wide"
    with pytest.raises(TypeError):
        config.model.kv_heads = "two"


# ---- resolve


LENGTHS = [
    ("steps", 7, 7),
    ("tokens", 1e6, round(1e6 / (32 * 256))),
    ("epochs", 0.5, TRAIN_TOKENS // (2 * 32 * 256)),
    ("tokens_per_param", 2.0, None),
    ("flops", 1e14, None),
    ("tokens", 1, 1),  # never less than one step
]


@pytest.mark.parametrize(("name", "amount", "steps"), LENGTHS)
def test_each_training_length_becomes_steps(name: str, amount: float, steps: int | None) -> None:
    config = resolved(**{f"train__{name}": amount})
    size = sizes.size(config)
    if name == "tokens_per_param":
        steps = round(amount * size.params / (32 * 256))
    if name == "flops":
        steps = round(amount / size.flops_per_unit / (32 * 256))
    assert config.train == TrainConfig(steps=steps)


def test_epochs_are_of_the_subset() -> None:
    config = resolved(train__epochs=3, data__unique_tokens=2**16)
    assert config.train.steps == 3 * 2**16 // (32 * 256)


@pytest.mark.parametrize(
    ("overrides", "given_"),
    [
        ({"train__steps": None}, "none"),
        ({"train__steps": 5, "train__epochs": 1}, "train.steps=5, train.epochs=1"),
    ],
)
def test_exactly_one_training_length(overrides: dict[str, Any], given_: str) -> None:
    with pytest.raises(ConfigError, match=f"exactly one training length .* given: {given_}"):
        resolved(**overrides)


VALID: list[dict[str, Any]] = [
    {},
    {"model__kv_heads": 2, "model__mlp": "plain", "seed": 5},
    {"model__width": 100, "model__head_dim": 16, "model__mlp_width": 7, "data__seed": 0},
    {"train__tokens_per_param": 20, "optim__warmup_steps": 3},
    {"train__flops": 1e15, "optim__warmup_fraction": None, "data__unique_tokens": 2**18},
    {"evals__sets__docs": {"part": "docs"}, "evals__sets__own": {"split": "train"}},
]


@pytest.mark.parametrize("overrides", VALID)
def test_resolve_is_idempotent_and_leaves_nothing_open(overrides: dict[str, Any]) -> None:
    config = resolved(**overrides)
    assert resolve(config, facts, sizes.size) == config
    assert fingerprint(resolve(config, facts, sizes.size)) == fingerprint(config)
    stored = from_dict(json.loads(json.dumps(to_dict(config))))
    assert stored == config
    assert fingerprint(stored) == fingerprint(config)
    model, data, optim = config.model, config.data, config.optim
    derived = (model.kv_heads, model.head_dim, model.mlp_width, model.vocab, config.train.steps)
    assert None not in (*derived, data.seed, data.corpus, optim.warmup_steps)
    assert all(s.corpus is not None for s in config.evals.sets.values())


def test_derived_sizes() -> None:
    model = resolved(model__width=100, model__heads=5).model
    assert (model.kv_heads, model.head_dim, model.vocab) == (5, 20, 257)
    assert model.mlp_width == 272  # 8/3 * 100 = 266.7, rounded up to a multiple of 16
    assert resolved(model__width=96).model.mlp_width == 256  # 8/3 * 96, exactly
    assert resolved(model__mlp="plain").model.mlp_width == 4 * 256
    assert resolved(train__steps=1000).optim.warmup_steps == 50
    assert resolved(train__steps=1000, optim__warmup_steps=0).optim.warmup_steps == 0
    assert resolved(optim__warmup_steps=9).optim.warmup_steps == 9
    assert resolved(train__steps=1).optim.warmup_steps == 0


def test_evaluation_sets_take_the_training_corpus_but_for_what_they_change() -> None:
    data = TextConfig(source="tfds:x", part="code", seq_len=64, corpus="h")
    assert eval_data(data, EvalSetConfig()) == data
    part = eval_data(data, EvalSetConfig(part="docs"))
    assert part == dataclasses.replace(data, part="docs", corpus=None)
    other = eval_data(data, EvalSetConfig(source="stdlib"))
    assert other == dataclasses.replace(data, source="stdlib", part=None, corpus=None)
    config = resolved(data__source="a", evals__sets__docs={"part": "docs"})
    assert config.data.corpus == config.evals.sets["val"].corpus == "a-None-a"
    assert config.evals.sets["docs"].corpus == "a-docs-a"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model__width": 250}, "model.width=250 is not divisible by model.heads=4"),
        ({"model__kv_heads": 3}, "model.heads=4 is not divisible by model.kv_heads=3"),
        ({"model__width": 12}, "model.head_dim=3 must be even"),
        ({"model__vocab": 99}, "model.vocab=99, but the tokenizer has 257"),
        ({"train__microbatches": 5}, "train.batch_size=32 is not divisible by train.microbatches"),
        ({"data__unique_tokens": 2**21}, "data.unique_tokens=2097152 must lie between"),
        ({"data__unique_tokens": 8}, "data.unique_tokens=8 must lie between one example"),
        ({"data__corpus": "else"}, "data.corpus=else is pinned, but"),
        ({"evals__sets": {"val": {"corpus": "else"}}}, "evals.sets.val.corpus=else is pinned"),
        ({"evals__sets": {"ood": {}}}, 'evals.sets must keep the set "val"'),
        ({"evals__sets__train": {}}, "evals.sets.train: .*another name"),
        ({"train__steps": 0}, "train.steps=0 must be positive"),
        ({"train__epochs": -1}, "train.epochs=-1.0 must be positive"),
        ({"optim__warmup_steps": 10}, "optim.warmup_steps=10 .*train.steps=10"),
        ({"optim__warmup_steps": 1000}, "optim.warmup_steps=1000 .*train.steps=10"),
        ({"optim__warmup_fraction": 1}, "optim.warmup_fraction=1.0 .* 10 .*train.steps=10"),
    ],
)
def test_a_config_that_cannot_be_a_run_names_the_field(
    overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        resolved(**overrides)


EXPERTS = {"model__moe__experts": 4}
# What nothing reads, and the fields with which it is read.
IDLE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"model__moe__per_token": 1}, EXPERTS),
    ({"model__moe__width": 16}, EXPERTS),
    ({"model__moe__shared": 1}, EXPERTS),
    ({"model__moe__router": "expert_choice"}, EXPERTS),
    ({"model__moe__capacity_factor": 2}, EXPERTS),
    ({"objective__load_balance": 0.1}, EXPERTS),
    ({"objective__router_z": 0.1}, EXPERTS),
    ({"data__bpe_vocab": 512}, {"data__tokenizer": "bpe"}),
    ({"optim__decay_fraction": 0.5}, {"optim__schedule": "wsd"}),
    ({"train__spike_window": 16}, {"train__spike_z": 6}),
]
# Fields that others make idle, and what the same field is read with.
SILENCED: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (
        {"objective__load_balance": 0.1},
        EXPERTS | {"model__moe__router": "expert_choice"},
        EXPERTS | {"model__moe__router": "top_k"},
    ),
    ({"optim__b2": 0.9}, {"optim__name": "sgd"}, {"optim__name": "lion"}),
    ({"optim__eps": 1e-6}, {"optim__name": "sgd"}, {"optim__name": "adafactor"}),
    ({"optim__eps": 1e-6}, {"optim__name": "lion"}, {}),
    ({"optim__final_lr_fraction": 0}, {"optim__schedule": "rsqrt"}, {}),
    ({"optim__final_lr_fraction": 0}, {"optim__schedule": "constant"}, {"optim__schedule": "wsd"}),
]


@pytest.mark.parametrize(
    ("idle", "with_", "needed"), [*((idle, {}, needed) for idle, needed in IDLE), *SILENCED]
)
def test_a_value_that_nothing_reads_is_refused(
    idle: dict[str, Any], with_: dict[str, Any], needed: dict[str, Any]
) -> None:
    """One run has one name: a field away from its default must change what is computed."""
    (name,) = (path.replace("__", ".") for path in idle)
    with pytest.raises(ConfigError, match=rf"^{name}=.* changes nothing without .*; .* leave it "):
        resolved(**idle, **with_)
    assert fingerprint(resolved(**idle, **needed)) != fingerprint(resolved(**needed))


BAD_VALUES: Mapping[Any, list[str]] = {
    0: [
        *("model.width", "model.depth", "model.heads", "model.kv_heads", "model.head_dim"),
        *("model.mlp_width", "data.seq_len", "train.batch_size", "train.microbatches"),
        *("train.log_every", "train.checkpoint_every", "train.steps_per_call", "evals.every"),
        *("evals.batches", "mesh.data", "mesh.fsdp", "optim.eps", "optim.clip_norm"),
        *("model.logit_softcap", "data.validation_fraction", "model.window", "model.moe.per_token"),
        *("model.moe.width", "model.moe.capacity_factor", "model.pipeline_microbatches"),
        *("model.pipeline_repeats", "objective.chunk", "distributed.timeout"),
    ],
    -1: [
        *("model.moe.experts", "model.moe.shared", "objective.load_balance", "objective.router_z"),
        *("seed", "data.seed", "optim.peak_lr", "optim.weight_decay", "optim.warmup_steps"),
        *("optim.b1", "optim.decay_fraction", "objective.z_loss"),
    ],
    1: ["optim.b1", "optim.b2", "optim.ema_decay", "data.validation_fraction"],
    2: ["optim.warmup_fraction", "optim.final_lr_fraction"],
    2**32: ["seed", "data.seed"],
}


@pytest.mark.parametrize(("value", "path"), [(v, p) for v in BAD_VALUES for p in BAD_VALUES[v]])
def test_a_value_out_of_range_names_the_field(value: Any, path: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{path}=.* must "):
        resolved(**{path.replace(".", "__"): value})


# ---- identity


def test_the_fingerprint_changes_with_every_field_but_those_of_execution() -> None:
    base = resolved()
    values = {p: v for p in CHANGEABLE if (v := other_value(p, flat(base)[p])) is not None}
    assert set(values) == set(CHANGEABLE)
    prints = {path: fingerprint(override(base, {path: v})) for path, v in values.items()}
    same = {path for path, print_ in prints.items() if print_ == fingerprint(base)}
    assert same == EXECUTION
    others = [print_ for path, print_ in prints.items() if path not in EXECUTION]
    assert len(set(others)) == len(others)


def test_the_fingerprint_does_not_see_how_a_config_was_written() -> None:
    sets = {"val": EvalSetConfig(), "a": EvalSetConfig(part="x"), "b": EvalSetConfig(part="y")}
    config = RunConfig(train=TrainConfig(steps=10))
    one, two = (
        dataclasses.replace(config, evals=dataclasses.replace(config.evals, sets=s))
        for s in (sets, dict(reversed(sets.items())))
    )
    assert fingerprint(resolve(one, facts, sizes.size)) == fingerprint(
        resolve(two, facts, sizes.size)
    )
    ints = dataclasses.replace(config, optim=OptimConfig(peak_lr=1, b1=0))
    floats = dataclasses.replace(config, optim=OptimConfig(peak_lr=1.0, b1=0.0))
    assert fingerprint(resolve(ints, facts, sizes.size)) == fingerprint(
        resolve(floats, facts, sizes.size)
    )


def test_lengths_that_mean_the_same_steps_are_the_same_run() -> None:
    assert fingerprint(resolved(train__tokens=10 * 32 * 256)) == fingerprint(resolved())
    spelled = resolved(model__kv_heads=4, model__head_dim=64, data__seed=0, optim__warmup_steps=0)
    assert fingerprint(spelled) == fingerprint(resolved())


def test_an_unresolved_config_has_no_fingerprint() -> None:
    with pytest.raises(ConfigError, match="not resolved"):
        fingerprint(RunConfig())
    with pytest.raises(ConfigError, match="not resolved"):
        fingerprint(RunConfig(train=TrainConfig(steps=10)))


def test_the_run_name_reads_and_ends_in_the_fingerprint() -> None:
    config = resolved(seed=3, train__steps=1000)
    assert run_name(config) == f"transformer-w256-d4-8.19Mtok-s3-{fingerprint(config)}"
    assert run_name(config).isascii()


@pytest.mark.parametrize("group", choices.ROOMS)
def test_every_choice_is_found_by_the_first_field_of_its_config(group: str) -> None:
    room = choices.ROOMS[group]
    for name in choices.registry(group):
        assert getattr(choices.new(group, name), room.field) == name
        assert choices.config_class(group, {room.field: name}) is type(choices.new(group, name))
    with pytest.raises(ConfigError, match=rf"{group}\.{room.field}='nothing' is no {room.what}"):
        from_dict({group: {room.field: "nothing"}})


def test_a_name_that_was_asked_for_is_not_handed_on():
    """The fingerprint is kept with a config: a changed copy has its own, and equality is blind."""
    one = resolved()
    first = fingerprint(one)
    other = dataclasses.replace(one, seed=one.seed + 1)
    assert fingerprint(other) != first
    again = dataclasses.replace(other, seed=one.seed)
    assert again == one
    assert fingerprint(again) == first == fingerprint(one)
