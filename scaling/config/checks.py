"""What a config must hold before it is resolved: ranges, and fields that something reads. That its
parts fit each other: `pairs.py`.

The checks of families, kinds of data and objectives stand in their records. Called by `resolve.py`.
No jax in this file.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

from scaling.config import choices
from scaling.config.contracts import (
    AT_LEAST_ONE,
    DECAY,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_OR_OFF,
    SEED,
    SHARE,
    WITHIN,
    Idle,
    Range,
)
from scaling.config.reading import flat
from scaling.config.run import MeshConfig, RunConfig
from scaling.errors import ConfigError

DEEP = ("depth_mup", "completep")  # parametrizations that follow the depth too

_MESH_AXES = tuple(axis.name for axis in dataclasses.fields(MeshConfig))
_RHYTHM = (
    *("steps_per_call", "log_every", "checkpoint_every", "keep_checkpoints", "profile_steps"),
    *("fingerprint_every", "watch_every"),
)

# Group, and what the values of its fields must be where they are given.
_RANGES: tuple[tuple[str, Range], ...] = (
    ("model", (("width", "depth"), AT_LEAST_ONE)),
    ("model", (("init_scale",), POSITIVE)),
    ("data", (("seed",), SEED)),
    ("train", (("subset_seed",), SEED)),
    ("optim", (("peak_lr", "weight_decay", "warmup_steps"), NOT_NEGATIVE)),
    ("optim", (("warmup_fraction", "decay_fraction", "final_lr_fraction"), SHARE)),
    ("optim", (("b1", "b2", "ema_decay"), DECAY)),
    ("optim", (("eps",), POSITIVE)),
    ("optim", (("l1", "l2"), NOT_NEGATIVE)),
    ("augment", (("noise", "rotation", "color", "mixup", "cutmix"), NOT_NEGATIVE)),
    ("augment", (("scale",), DECAY)),
    ("optim", (("clip_norm",), POSITIVE_OR_OFF)),
    ("optim", (("base_width", "base_depth"), AT_LEAST_ONE)),
    ("mesh", (_MESH_AXES, AT_LEAST_ONE)),
    ("distributed", (("timeout",), AT_LEAST_ONE)),
    ("train", (("batch_size", "microbatches", *_RHYTHM), AT_LEAST_ONE)),
    ("train", (("profile_start",), NOT_NEGATIVE)),
    ("train", (("spike_z",), POSITIVE_OR_OFF)),
    ("attack", (("epsilon",), NOT_NEGATIVE)),
    ("attack", (("steps",), AT_LEAST_ONE)),
    ("distill", (("weight",), SHARE)),
    ("distill", (("temperature",), POSITIVE)),
    ("distill", (("features",), NOT_NEGATIVE)),
    ("distill", (("on_policy",), SHARE)),
    ("distill", (("beta",), WITHIN)),
    ("distill", (("prompt",), AT_LEAST_ONE)),
    ("ewc", (("weight", "decay"), NOT_NEGATIVE)),
    ("ewc", (("batches",), AT_LEAST_ONE)),
    ("mixture", (("memory",), AT_LEAST_ONE)),
    ("privacy", (("clip_norm",), POSITIVE_OR_OFF)),
    ("privacy", (("noise",), NOT_NEGATIVE)),
    ("privacy", (("delta",), WITHIN)),
    ("federated", (("clients", "per_round", "local_steps"), AT_LEAST_ONE)),
    ("federated", (("local_lr",), POSITIVE)),
    ("federated", (("skew",), SHARE)),
    ("energy", (("watts",), POSITIVE_OR_OFF)),
    ("energy", (("pue",), AT_LEAST_ONE)),
    ("energy", (("grams_per_kwh",), NOT_NEGATIVE)),
    ("train", (("spike_window",), (lambda v: v >= 8, "be at least 8"))),
    ("evals", (("every", "batches", "batch_size"), AT_LEAST_ONE)),
)

# Fields that nothing reads unless others have certain values, whether they have, and which those
# are. Away from its default such a field would give one run two names, and change nothing.
_READ_WITH: tuple[Idle, ...] = (
    (("optim.b1",), lambda c: c.optim.name != "adagrad", "another optim.name than adagrad"),
    (
        ("optim.b2",),
        lambda c: c.optim.name not in ("sgd", "adagrad"),
        "another optim.name than sgd and adagrad",
    ),
    (
        ("optim.eps",),
        lambda c: c.optim.name not in ("sgd", "lion"),
        "another optim.name than sgd and lion",
    ),
    (
        ("optim.ema_decay",),
        lambda c: c.optim.name != "schedule_free",
        "another optim.name than schedule_free, which averages by itself",
    ),
    (
        ("optim.base_width",),
        lambda c: c.optim.parametrization != "standard",
        "optim.parametrization=mup, depth_mup or completep",
    ),
    (
        ("optim.base_depth",),
        lambda c: c.optim.parametrization in DEEP,
        "optim.parametrization=depth_mup or completep",
    ),
    (
        ("privacy.noise", "privacy.delta"),
        lambda c: c.privacy.clip_norm is not None,
        "privacy.clip_norm",
    ),
    (
        tuple(f"federated.{name}" for name in ("per_round", "local_steps", "local_lr", "skew")),
        lambda c: c.federated.clients is not None,
        "federated.clients",
    ),
    (("attack.steps",), lambda c: c.attack.epsilon > 0, "attack.epsilon"),
    (("optim.decay_fraction",), lambda c: c.optim.schedule == "wsd", "optim.schedule=wsd"),
    (
        ("optim.final_lr_fraction",),
        lambda c: c.optim.schedule in ("cosine", "linear", "wsd"),
        "optim.schedule=cosine, linear or wsd",
    ),
    (
        ("train.subset_seed",),
        lambda c: c.data.unique_units is not None,
        "a training subset, such as data.unique_examples",
    ),
    (("train.spike_window",), lambda c: c.train.spike_z is not None, "train.spike_z"),
    (("distill.weight",), lambda c: c.begins.run is not None, "begins.run, the teacher"),
    (
        tuple(
            f"distill.{name}"
            for name in (
                "temperature",
                "begin",
                "teacher",
                "divergence",
                "features",
                "on_policy",
            )
        ),
        lambda c: c.distill.weight > 0,
        "distill.weight",
    ),
    (("distill.beta",), lambda c: c.distill.divergence == "jsd", "distill.divergence=jsd"),
    (("distill.prompt",), lambda c: c.distill.on_policy > 0, "distill.on_policy"),
    (
        ("begins.new",),
        lambda c: not c.distill.weight or c.distill.begin,
        "distill.begin=True, as the other run is only asked",
    ),
    (
        ("ewc.weight",),
        lambda c: c.begins.run is not None and (not c.distill.weight or c.distill.begin),
        "begins.run, whose parameters it holds on to",
    ),
    (("ewc.batches", "ewc.decay"), lambda c: c.ewc.weight > 0, "ewc.weight"),
    (("mixture.memory",), lambda c: bool(c.mixture.shares), "mixture.shares"),
    (("begins.new", "begins.folder"), lambda c: c.begins.run is not None, "begins.run"),
)


def _records(config: RunConfig) -> Iterator[tuple[str, Any]]:
    yield "model", choices.family(config.model)
    yield "data", choices.kind(config.data)
    yield "objective", choices.objective(config.objective)
    yield "transform", choices.transform(config.transform)


def check_parametrization(config: RunConfig) -> None:
    """Raises ConfigError where the model's parameters cannot be scaled as is asked for."""
    optim, model = config.optim, config.model
    given = f"optim.parametrization={optim.parametrization}"
    if optim.parametrization == "standard":
        return
    if optim.base_width is None:
        raise ConfigError(
            f"{given} needs optim.base_width, the model.width at which optim's numbers were tuned"
        )
    roles = choices.family(model).roles(model)
    if optim.parametrization in DEEP and not roles.branches:
        raise ConfigError(
            f"{given} scales residual branches, and model.family={model.family} has none that end "
            "in a parameter; give optim.parametrization=mup, which follows the width alone"
        )
    if optim.parametrization in DEEP and optim.base_depth is None:
        raise ConfigError(
            f"{given} needs optim.base_depth, the model.depth at which optim's numbers were tuned"
        )
    if config.ewc.weight:
        raise ConfigError(
            f"{given} stores parameters in another scale than what ewc.weight holds them to; train "
            "the run with optim.parametrization=standard"
        )
    try:
        choices.family(model).scaled(model, optim.base_width, model.depth)
    except ConfigError as error:
        raise ConfigError(f"optim.base_width={optim.base_width}: no base model: {error}") from error


def check_ranges(config: RunConfig) -> None:
    """Raises ConfigError for a value out of its range."""
    values = flat(config)
    own = [(group, one) for group, record in _records(config) for one in record.ranges]
    for group, (fields, (holds, must)) in (*_RANGES, *own):
        for name in (f"{group}.{field}" for field in fields):
            if values.get(name) is not None and not holds(values[name]):
                raise ConfigError(f"{name}={values[name]} must {must}")
    if not SEED[0](config.seed):
        raise ConfigError(f"seed={config.seed} must {SEED[1]}")
    if config.train.batch_size % config.train.microbatches:
        raise ConfigError(
            f"train.batch_size={config.train.batch_size} is not divisible by train.microbatches="
            f"{config.train.microbatches}"
        )


@functools.cache
def _defaults(chosen: tuple[tuple[str, type], ...]) -> dict[str, Any]:
    """Dotted field -> default, of a run of these choices."""
    return flat(dataclasses.replace(RunConfig(), **{group: cls() for group, cls in chosen}))


def check_idle(config: RunConfig) -> None:
    """Raises ConfigError for a value that nothing reads."""
    values = flat(config)
    defaults = _defaults(
        tuple((group, type(getattr(config, group))) for group, _ in _records(config))
    )
    own = [one for _, record in _records(config) for one in record.idle]
    for names, is_read, needed in (*_READ_WITH, *own):
        for name in (n for n in names if n in values):
            default_value = defaults[name]
            if values[name] != default_value and not is_read(config):
                rest = "leave it unset" if default_value is None else f"leave it at {default_value}"
                raise ConfigError(
                    f"{name}={values[name]} changes nothing without {needed}; give that, or {rest}"
                )
