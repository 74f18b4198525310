"""What a run is: frozen dataclasses, made once from a ConfigDict.

`configs/*.py` start from `base_config()`, a locked ConfigDict with every field at its default, and
change some. `from_dict` turns it, strictly, into a `RunConfig`; `scaling/config/resolve.py` then
fills every value that follows from others. Past that nothing in a RunConfig is left to be guessed.
Defaults live in the dataclasses and nowhere else; those of model, data and objective stand beside
what they describe (`choices.py`). No jax in this file.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import ml_collections

from scaling.config import choices, nested
from scaling.config.choices import DataConfig, ModelConfig, ObjectiveConfig, TransformConfig
from scaling.config.marks import added, execution, traced
from scaling.errors import ConfigError, nearest


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer and its schedule (`scaling/optim/optimizer.py`)."""

    name: Literal["adamw", "adafactor", "lion", "sgd", "muon", "adagrad", "schedule_free"] = "adamw"
    peak_lr: float = traced(3e-3)  # learning rate after warm-up
    schedule: Literal["cosine", "wsd", "linear", "rsqrt", "constant"] = "cosine"
    warmup_fraction: float | None = 0.05  # share of the steps; give this or warmup_steps
    warmup_steps: int | None = None  # updates
    decay_fraction: float = traced(
        0.2, argument=False
    )  # share of the steps at the end that wsd spends decaying
    final_lr_fraction: float = traced(0.1)  # last learning rate / peak (cosine, linear, wsd)
    b1: float = traced(
        0.9
    )  # first-moment decay; sgd, muon: of the momentum; lion: share of the momentum in an update
    b2: float = traced(0.95)  # second-moment decay; lion: of its momentum; not of sgd
    eps: float = traced(1e-8)  # added to the root of the second moment
    weight_decay: float = traced(0.1)  # on matrices and embeddings; norms are never decayed
    independent_weight_decay: bool = (
        False  # True: decay is weight_decay * lr / peak_lr, not weight_decay * lr
    )
    l1: float = traced(
        0.0, common=1e-3, off=0.0, added=True
    )  # the loss has this times the sum of |w| over matrices and embeddings; 0: off
    l2: float = traced(
        0.0, common=1e-3, off=0.0, added=True
    )  # likewise, half of this times the sum of w^2; with adamw that is not weight_decay
    clip_norm: float | None = traced(1.0, off=None)  # global norm of the gradient; None: off
    ema_decay: float | None = traced(
        None, common=0.5, off=None
    )  # of an average of the weights, which is then what is evaluated; None: off
    offload: bool = execution(False)  # the moments lie in host memory between updates
    parametrization: Literal["standard", "mup", "depth_mup", "completep"] = added(
        "standard"
    )  # how initial scales, rates and factors follow width and depth (`optim/parametrization.py`)
    base_width: int | None = added(
        None
    )  # model.width at which all are as in standard, and for which the numbers above hold
    base_depth: int | None = added(None)  # likewise model.depth, of depth_mup and completep


@dataclass(frozen=True)
class MeshConfig:
    """Devices along each mesh axis; an axis of size 1 is unused (`scaling/devices/meshes.py`)."""

    replica: int = 1  # across slices, slow links
    data: int | None = None  # data parallel; None: every device that the other axes leave
    fsdp: int = 1  # data parallel with parameters sharded
    seq: int = 1  # sequence (context) parallel
    tensor: int = 1  # channels within a layer
    expert: int = 1  # experts
    stage: int = 1  # pipeline stages
    trial: int = 1  # members of a packed sweep


@dataclass(frozen=True)
class DistributedConfig:
    """The processes of one run (`scaling/devices/distributed.py`); None: as Slurm, TPU pod or GKE
    says.
    """

    coordinator: str | None = None  # host:port of process 0
    processes: int | None = None  # how many
    process: int | None = None  # number of this one
    timeout: int = 300  # seconds to wait for the others


@dataclass(frozen=True)
class TrainConfig:
    """Length, batch and rhythm of training. Give one length; resolve turns it into steps."""

    steps: int | None = None  # updates
    tokens: float | None = None  # training tokens, of data whose unit is the token
    units: float | None = added(None)  # of whatever the data are counted in: images, examples
    epochs: float | None = None  # passes over the unique examples (or the whole train split)
    flops: float | None = None  # training FLOPs, forward and backward, by the closed formula
    tokens_per_param: float | None = None  # training tokens / total parameters
    units_per_param: float | None = added(None)  # likewise, in the data's unit
    batch_size: int = 32  # rows (windows, images) a step, over all devices
    subset_seed: int | None = added(
        None
    )  # draws the training subset anew; None: one order for all runs, so that subsets nest
    microbatches: int = execution(1)  # gradient accumulation: pieces of the batch, exact
    steps_per_call: int = execution(1)  # steps a dispatch (a scan over device-resident batches)
    log_every: int = execution(10)  # steps between lines of the train split
    checkpoint_every: int | None = execution(
        None
    )  # steps; None: at the end only (and when told to stop)
    keep_checkpoints: int = execution(2)  # newest that are kept
    fingerprint_every: int | None = execution(
        None
    )  # steps between hashes of the state in the metrics; None: off
    watch_every: int | None = execution(
        None
    )  # steps between RMS of activations, gradients, updates, attention logits; None: off
    noise_scale: bool = execution(
        False
    )  # the gradient's noise in the metrics, from microbatches or devices
    spike_z: float | None = (
        None  # robust z-score of the loss beyond which training goes back and skips; None: off
    )
    spike_window: int = 64  # steps whose losses say what is usual
    xla_flags: Literal["none", "overlap", "sparse_core"] = execution(
        "none"
    )  # a preset of compiler flags (`scaling/devices/xla_flags.py`)
    profile_start: int | None = execution(None)  # first step of a profiler trace; None: off
    profile_steps: int = execution(5)  # steps of the trace


@dataclass(frozen=True)
class EvalSetConfig:
    """One evaluation set. A field left at None is the training corpus's."""

    source: str | None = None  # as data.source
    part: str | None = None  # as data.part
    split: Literal["train", "validation", "all", "flipped"] = (
        "validation"  # "all" for a source that is not trained on; "flipped": of what is trained on,
        # the examples whose label data.label_noise has made wrong: accuracy on them is memorised
    )
    corpus: str | None = None  # content hash; filled by resolve
    # rows: what the objective measures of each example. features: a linear probe, fitted to the
    # model's features of training examples. generate: greedy continuations against the true ones.
    # answers: whether all that counts in an example is right. exposure: of planted secrets.
    # attack: as rows, of examples that are moved to where the loss is larger
    # (`scaling/config/passes.py`)
    by: Literal["rows", "features", "generate", "answers", "exposure", "attack"] = added("rows")
    fit_batches: int = added(16)  # batches of training examples that a probe is fitted to
    shots: int | None = added(None)  # examples of each class that a probe is fitted to; None: all
    ridge: float = added(1e-3)  # penalty of a probe's weights, over the features' mean variance
    prompt: int | None = added(None)  # tokens that are continued; None: three quarters of a window
    continuation: int | None = added(None)  # tokens that are generated; None: the other quarter
    copies: bool = added(False)  # what is continued is half as much text, written twice
    corruption: str | None = added(None)  # as data.corruption; None: as data.corruption is
    severity: int | None = added(None)  # of the corruption, 1 to 5; None: 3
    beams: int = added(1)  # texts that are followed at once where a source is translated; 1: greedy
    repeats: int | None = added(None)  # of the secrets of an exposure; None: the most
    epsilon: float = added(0.1)  # of an attack: by how much each number may be moved
    steps: int = added(10)  # of an attack; 1: along the gradient's sign


@dataclass(frozen=True)
class EvalsConfig:
    """Which sets are evaluated, and when. The set "val" is the in-distribution validation set,
    always present.
    """

    every: int | None = None  # steps; None: at the end only
    at_start: bool = added(False)  # the untrained model is evaluated too, as step 0
    batches: int = 16  # batches a set (fewer if the set is smaller)
    batch_size: int = 32  # windows a batch
    sets: Mapping[str, EvalSetConfig] = field(default_factory=lambda: {"val": EvalSetConfig()})


@dataclass(frozen=True)
class AugmentConfig:
    """What training does to its images or vectors each time that they are seen, on the device
    (`scaling/train/augment.py`). Nothing of it in evaluation.
    """

    noise: float = 0.0  # standard deviation of Gaussian noise on every number; 0: off
    rotation: float = 0.0  # degrees, at most, by which an image is turned; 0: off
    scale: float = 0.0  # share, at most, by which an image is larger or smaller; 0: off
    # share, at most, by which an image has more or less colour, more or less contrast, and is
    # lighter or darker; 0: off
    color: float = added(0.0)
    mixup: float = 0.0  # alpha of the Beta distribution of the shares of two examples; 0: off
    cutmix: float = 0.0  # likewise, of the areas of two images; 0: off


@dataclass(frozen=True)
class AttackConfig:
    """Training on examples that are moved to where the loss is larger (`train/attack.py`)."""

    epsilon: float = 0.0  # by how much each number of an image or vector may be moved; 0: off
    steps: int = 1  # 1: along the gradient's sign; more: projected gradient ascent


@dataclass(frozen=True)
class PrivacyConfig:
    """Differentially private training: clipped gradients and noise (`train/private.py`)."""

    clip_norm: float | None = None  # of each example's gradient; None: off
    noise: float = 1.0  # standard deviation of the sum's noise, over clip_norm
    delta: float = 1e-5  # chance of failure that the run's epsilon is said for


@dataclass(frozen=True)
class EnergyConfig:
    """What a run's energy is reckoned with (`scaling/costs/energy.py`); changes nothing in it."""

    watts: float | None = execution(None)  # of a device (a core, on CPUs); None: its data sheet's
    pue: float = execution(1.0)  # energy of the whole building over that of the computers in it
    grams_per_kwh: float = execution(475.0)  # of CO2; the world's mean, IEA 2019


@dataclass(frozen=True)
class DistillConfig:
    """The run in `begins.run` as a teacher, whose predictions are soft targets
    (`scaling/objectives/distillation.py`).
    """

    # Share of the loss that is the distance from the teacher's predictions; 0: off
    weight: float = traced(0.0, common=0.5, off=0.0)
    temperature: float = 1.0  # that softens the predictions of both
    begin: bool = False  # the run begins with the teacher's parameters too, as a run without one
    teacher: str | None = execution(None)  # its model, as JSON; filled in


@dataclass(frozen=True)
class BeginsConfig:
    """The run whose parameters a run begins with; its optimizer and its steps are its own
    (`scaling/train/begins.py`).
    """

    # Its fingerprint; as it is given also its directory, or in a study its override. None: from
    # nothing
    run: str | None = None
    new: str | None = None  # what is drawn anew: names in paths of parameters, with commas and *
    folder: str | None = execution(None)  # its directory, where that is not beside this run's


def _default(group: str) -> Any:
    """The choice that a config without one means."""
    return lambda: choices.new(group)


@dataclass(frozen=True)
class RunConfig:
    """One run."""

    model: ModelConfig = field(default_factory=_default("model"), metadata={"choice": "model"})
    data: DataConfig = field(default_factory=_default("data"), metadata={"choice": "data"})
    objective: ObjectiveConfig = field(
        default_factory=_default("objective"), metadata={"choice": "objective"}
    )
    optim: OptimConfig = OptimConfig()
    mesh: MeshConfig = field(default=MeshConfig(), metadata={"execution": True})
    distributed: DistributedConfig = field(
        default=DistributedConfig(), metadata={"execution": True}
    )
    train: TrainConfig = TrainConfig()
    evals: EvalsConfig = EvalsConfig()
    seed: int = 0  # initialisation, and the order of the data unless data.seed is given
    transform: TransformConfig = field(
        default_factory=_default("transform"), metadata={"choice": "transform", "added": True}
    )
    begins: BeginsConfig = field(default=BeginsConfig(), metadata={"added": True})
    distill: DistillConfig = field(default=DistillConfig(), metadata={"added": True})
    augment: AugmentConfig = field(default=AugmentConfig(), metadata={"added": True})
    attack: AttackConfig = field(default=AttackConfig(), metadata={"added": True})
    privacy: PrivacyConfig = field(default=PrivacyConfig(), metadata={"added": True})
    energy: EnergyConfig = field(default=EnergyConfig(), metadata={"execution": True})


# Training lengths, of which a config gives one.
LENGTHS = ("steps", "tokens", "units", "epochs", "flops", "tokens_per_param", "units_per_param")


# ---- to and from plain dicts


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain dict of a config dataclass; `from_dict` reads it back to an equal object."""
    return nested.plain(config)


def to_identity(config: Any) -> dict[str, Any]:
    """`to_dict` without the fields of how a run is executed: what it computes."""
    return nested.plain(config, identity=True)


def from_dict(values: Mapping[str, Any]) -> RunConfig:
    """RunConfig from nested mappings (a ConfigDict, JSON); fields left out take their defaults.

    Raises ConfigError for what is no mapping, an unknown key (naming the nearest) or a value of the
    wrong type (naming the field).
    """
    if isinstance(values, ml_collections.ConfigDict):
        values = values.to_dict()
    if not isinstance(values, Mapping):
        hint = "; call it" if callable(values) else ""
        raise ConfigError(f"a config must be a ConfigDict, not a {type(values).__name__}{hint}")
    return nested.read(values, RunConfig)


def base_config(
    family: str | None = None,
    data: str | None = None,
    objective: str | None = None,
    transform: str | None = None,
) -> ml_collections.ConfigDict:
    """A locked ConfigDict with every field of a run at its default, typed, so that flags can set
    all of them.

    Args:
      family: of models (`scaling/families`); None: the default one. Likewise
      data: kind of data (`scaling/data/kinds`), and
      objective: what is minimised (`scaling/objectives`).
      transform: of the parameters (`scaling/transforms`).
    """
    run = RunConfig(
        model=choices.new("model", family),
        data=choices.new("data", data),
        objective=choices.new("objective", objective),
        transform=choices.new("transform", transform),
    )
    config = nested.typed_config_dict(run)
    config.lock()
    return config


def eval_set(**fields: Any) -> ml_collections.ConfigDict:
    """One more entry for `config.evals.sets`, typed as the others are."""
    return nested.typed_config_dict(dataclasses.replace(EvalSetConfig(), **fields))


def is_debug(arg: str) -> bool:
    """Whether the argument of a config or study, "path.py:arg", asks for its debug form.

    Raises ConfigError for any but "" and "debug": a typo must not train at full size.
    """
    if arg not in ("", "debug"):
        raise ConfigError(
            f":{arg} is no form of this config{nearest(arg, ['debug'])}; leave it out for full size"
        )
    return arg == "debug"


def override(config: RunConfig, overrides: Mapping[str, Any]) -> RunConfig:
    """A new RunConfig with dotted fields replaced: {"model.width": 512, "seed": 1}. Strict as
    `from_dict`. Evaluation sets of a corpus that is replaced by another fall away (`left_out`).
    """
    values = to_dict(config)
    for name in left_out(config, overrides):
        del values["evals"]["sets"][name]
    for group, room in choices.ROOMS.items():
        other = overrides.get(f"{group}.{room.field}")
        if other is not None and other != values[group][room.field]:
            values[group] = _exchanged(group, getattr(config, group), other)
    for path, value in overrides.items():
        *groups, leaf = path.split(".")
        at = values
        for i, group in enumerate(groups):
            if not isinstance(at.get(group), dict):
                raise ConfigError(
                    f"{path}: {'.'.join(groups[: i + 1])} is no config group{nearest(group, at)}"
                )
            at = at[group]
        if leaf not in at and groups[-2:] != ["evals", "sets"]:
            raise ConfigError(f"{path} is no config field{nearest(leaf, at)}")
        if isinstance(at.get(leaf), dict) and "sets" not in (leaf, *groups):
            raise ConfigError(
                f"{path} is a group of fields; name one, such as {path}.{min(at[leaf])}"
            )
        at[leaf] = dict(value) if isinstance(value, Mapping) else value
    return from_dict(values)


def _exchanged(group: str, old: Any, name: Any) -> dict[str, Any]:
    """The fields of another choice, with what the old one has set and the other has too."""
    new = to_dict(choices.record(group, name).config())
    before, defaults = to_dict(old), to_dict(type(old)())
    same = {k: v for k, v in before.items() if k in new and v != defaults[k]}
    return new | same | {choices.ROOMS[group].field: name}


def left_out(config: RunConfig, overrides: Mapping[str, Any]) -> dict[str, str]:
    """The evaluation sets that `override` leaves out, and why, in a line: a set that is a part of
    the training corpus means the config's own, so it goes where that gives way to a source of
    another kind; and a whole part goes where that part is now trained on. Unless the overrides
    speak of the set.
    """
    old, new = config.data.source, str(overrides.get("data.source", config.data.source))
    sets = {
        name: one
        for name, one in config.evals.sets.items()
        if one.source is None and one.part is not None
        if not any(f"{path}.".startswith(f"evals.sets.{name}.") for path in overrides)
    }
    if old.partition(":")[0] == new.partition(":")[0]:
        part = overrides.get("data.part", getattr(config.data, "part", None))
        return {
            name: f"evals.sets.{name} is left out: it is all of part {part}, which is trained on"
            for name, one in sets.items()
            if (one.part, one.split) == (part, "all")
        }
    return {
        name: f"evals.sets.{name} is left out: it is part {s.part} of {old}, and data.source={new}"
        for name, s in sets.items()
    }


def flat(config: RunConfig) -> dict[str, Any]:
    """Dotted field -> value, sorted: the columns of a table, the lines of a golden file."""
    out: dict[str, Any] = {}

    def walk(values: Mapping[str, Any], prefix: str) -> None:
        for key in sorted(values):
            if isinstance(values[key], Mapping):
                walk(values[key], f"{prefix}{key}.")
            else:
                out[prefix + key] = values[key]

    walk(to_dict(config), "")
    return out
