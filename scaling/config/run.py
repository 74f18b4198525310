"""What a run is: frozen dataclasses, made once from a ConfigDict, and the hash that names the run.

`configs/*.py` start from `base_config()`, a locked ConfigDict with every field at its default, and
change some. `from_dict` turns it, strictly, into a `RunConfig`; `scaling/config/resolve.py` then
fills every value that follows from others. Past that nothing in a RunConfig is left to be guessed,
and its `fingerprint` is the run's identity. Defaults live here and nowhere else. No jax in this
file.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import ml_collections

from scaling.config import nested
from scaling.errors import ConfigError, nearest


def execution(default: Any) -> Any:
    """A field of how a run is executed, not of what it computes: left out of the fingerprint."""
    return field(default=default, metadata={"execution": True})


@dataclass(frozen=True)
class MoEConfig:
    """The mixture of experts in place of every block's MLP (`scaling/models/moe.py`)."""

    experts: int = 0  # routed experts a block; 0: a dense MLP
    per_token: int = 2  # experts that a token is sent to (expert choice: on average)
    width: int | None = None  # hidden channels of an expert; None: mlp_width
    shared: int = 0  # experts that see every token, beside the routed
    router: Literal["top_k", "expert_choice"] = "top_k"
    capacity_factor: float | None = (
        None  # slots an expert / (tokens * per_token / experts); None: dropless
    )


@dataclass(frozen=True)
class TransformerConfig:
    """The transformer family (`scaling/models/transformer.py`)."""

    family: Literal["transformer"] = "transformer"
    width: int = 256  # channels of the residual stream
    depth: int = 4  # blocks
    heads: int = 4  # query heads
    kv_heads: int | None = None  # key and value heads; None: as many as query heads
    head_dim: int | None = None  # channels a head; None: width / heads
    mlp: Literal["gated", "plain"] = "gated"  # SwiGLU, or GELU with one input matrix
    mlp_width: int | None = (
        None  # hidden channels; None: 4 width (plain), 8/3 width rounded up to 16 (gated)
    )
    vocab: int | None = None  # tokens; None: what the tokenizer has
    tie_embeddings: bool = True  # the output head is the embedding, transposed
    qk_norm: bool = True  # RMSNorm of queries and keys, per head
    logit_softcap: float | None = None  # logits -> cap * tanh(logits / cap)
    rope_theta: float = 10_000.0  # base of the rotary wavelengths, positions
    init_scale: float = 1.0  # of every matrix's and embedding's initial std, over its default
    norm_eps: float = 1e-6  # added to the mean square in RMSNorm
    dtype: Literal["float32", "bfloat16"] = (
        "float32"  # of activations and matmuls; parameters stay float32
    )
    matmul: Literal["default", "int8", "fp8"] = (
        "default"  # of the blocks' projections; 8 bits: rounded operands (extra `quantized`)
    )
    window: int | None = None  # keys a query sees, its own included; None: all up to its own
    moe: MoEConfig = MoEConfig()
    attention: Literal["auto", "blockwise", "cudnn", "splash"] = execution(
        "auto"
    )  # auto: cudnn on a GPU, splash on a TPU where the shape allows, else blockwise
    context_parallel: Literal["gather", "ring"] = execution(
        "gather"
    )  # how keys reach the queries of other devices along mesh.seq
    pipeline_microbatches: int | None = execution(
        None
    )  # pieces of the batch in the pipeline over mesh.stage; None: as many as stages
    pipeline_repeats: int = execution(1)  # times a microbatch passes every stage (circular)
    scan_layers: bool = execution(True)  # one compiled block, looped; False: unrolled
    remat: Literal["none", "dots", "attention", "offload", "full"] = execution(
        "none"
    )  # what the backward pass computes again (`scaling/models/remat.py`)


@dataclass(frozen=True)
class DataConfig:
    """The training corpus and how it becomes windows of tokens (`scaling/data`)."""

    source: str = "stdlib"  # where the documents are; the forms are in `docs/data.md`
    part: str | None = (
        None  # a named part of the source (stdlib: code, docs); None: the source's default
    )
    tokenizer: Literal["bytes", "bpe"] = (
        "bytes"  # bpe is trained on the train split and cached by content
    )
    bpe_vocab: int = 4096  # tokens of the BPE vocabulary, the document separator included
    seq_len: int = 256  # tokens a window
    mask_documents: bool = True  # attention stops at document boundaries
    unique_tokens: int | None = (
        None  # size of the nested training subset, tokens; None: the whole train split
    )
    validation_fraction: float = 0.05  # share of documents held out, chosen by content hash
    seed: int | None = None  # order of the windows; None: the run's seed
    corpus: str | None = (
        None  # content hash of the prepared corpus; filled by resolve, checked if given
    )


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised (`scaling/objectives`)."""

    name: Literal["next_token"] = "next_token"
    z_loss: float = 0.0  # weight of mean(log Z ^ 2), pulls the softmax normaliser to 1
    load_balance: float = 0.0  # weight of the experts' load balance loss
    router_z: float = 0.0  # weight of mean(log Z ^ 2) of the router
    chunk: int | None = execution(
        None
    )  # tokens whose logits exist at a time; None: by the vocabulary


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer and its schedule (`scaling/optim/optimizer.py`)."""

    name: Literal["adamw", "adafactor", "lion", "sgd"] = "adamw"
    peak_lr: float = 3e-3  # learning rate after warm-up
    schedule: Literal["cosine", "wsd", "linear", "rsqrt", "constant"] = "cosine"
    warmup_fraction: float | None = 0.05  # share of the steps; give this or warmup_steps
    warmup_steps: int | None = None  # updates
    decay_fraction: float = 0.2  # share of the steps at the end that wsd spends decaying
    final_lr_fraction: float = 0.1  # last learning rate / peak (cosine, linear, wsd)
    b1: float = (
        0.9  # first-moment decay; sgd: of its momentum; lion: share of the momentum in an update
    )
    b2: float = 0.95  # second-moment decay; lion: of its momentum; not of sgd
    eps: float = 1e-8  # added to the root of the second moment
    weight_decay: float = 0.1  # on matrices and embeddings; norms are never decayed
    independent_weight_decay: bool = (
        False  # True: decay is weight_decay * lr / peak_lr, not weight_decay * lr
    )
    clip_norm: float | None = 1.0  # global norm of the gradient; None: off
    ema_decay: float | None = (
        None  # of an average of the weights, which is then what is evaluated; None: off
    )
    offload: bool = execution(False)  # the moments lie in host memory between updates


@dataclass(frozen=True)
class MeshConfig:
    """Devices along each mesh axis; an axis of size 1 is unused (`scaling/devices/meshes.py`)."""

    replica: int = 1  # across slices, slow links
    data: int | None = None  # data parallel; None: every device that the other axes leave
    fsdp: int = 1  # data parallel with parameters sharded
    seq: int = 1  # sequence (context) parallel
    tensor: int = 1  # heads and MLP channels
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
    tokens: float | None = None  # training tokens
    epochs: float | None = None  # passes over data.unique_tokens (or the whole train split)
    flops: float | None = None  # training FLOPs, forward and backward, by the closed formula
    tokens_per_param: float | None = None  # training tokens / total parameters
    batch_size: int = 32  # windows a step, over all devices
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
    split: Literal["train", "validation", "all"] = (
        "validation"  # "all" for a source that is not trained on
    )
    corpus: str | None = None  # content hash; filled by resolve


@dataclass(frozen=True)
class EvalsConfig:
    """Which sets are evaluated, and when. The set "val" is the in-distribution validation set,
    always present.
    """

    every: int | None = None  # steps; None: at the end only
    batches: int = 16  # batches a set (fewer if the set is smaller)
    batch_size: int = 32  # windows a batch
    sets: Mapping[str, EvalSetConfig] = field(default_factory=lambda: {"val": EvalSetConfig()})


@dataclass(frozen=True)
class RunConfig:
    """One run."""

    model: TransformerConfig = TransformerConfig()
    data: DataConfig = DataConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optim: OptimConfig = OptimConfig()
    mesh: MeshConfig = field(default=MeshConfig(), metadata={"execution": True})
    distributed: DistributedConfig = field(
        default=DistributedConfig(), metadata={"execution": True}
    )
    train: TrainConfig = TrainConfig()
    evals: EvalsConfig = EvalsConfig()
    seed: int = 0  # initialisation, and the order of the data unless data.seed is given


MODEL_CONFIGS: dict[str, type] = {"transformer": TransformerConfig}
# Which families an objective can train: they meet in the batch's and the output's names.
FAMILIES_OF: dict[str, tuple[str, ...]] = {"next_token": ("transformer",)}
LENGTHS = ("steps", "tokens", "epochs", "flops", "tokens_per_param")


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
    return nested.read(values, RunConfig, MODEL_CONFIGS)


def base_config(family: str = "transformer") -> ml_collections.ConfigDict:
    """A locked ConfigDict with every field of a run at its default, typed, so that flags can set
    all of them.
    """
    config = nested.typed_config_dict(RunConfig(model=MODEL_CONFIGS[family]()))
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
        at[leaf] = value
    return from_dict(values)


def left_out(config: RunConfig, overrides: Mapping[str, Any]) -> dict[str, str]:
    """The evaluation sets that `override` leaves out, and why, in a line: a set that is a part of
    the training corpus means the config's own, so it goes where that gives way to a source of
    another kind, unless the overrides speak of the set.
    """
    old, new = config.data.source, str(overrides.get("data.source", config.data.source))
    if old.partition(":")[0] == new.partition(":")[0]:
        return {}
    return {
        name: f"evals.sets.{name} is left out: it is part {s.part} of {old}, and data.source={new}"
        for name, s in config.evals.sets.items()
        if s.source is None and s.part is not None
        if not any(f"{path}.".startswith(f"evals.sets.{name}.") for path in overrides)
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


# ---- identity


def fingerprint(config: RunConfig) -> str:
    """12 hex digits of the SHA-256 of a resolved run's identity: every field but those marked
    `execution`.

    Mesh, microbatches, steps per call and the like are left out: they change where and how a run is
    computed, not what, so a run moved to another machine keeps its directory and its checkpoints.
    """
    if config.train.steps is None or config.data.corpus is None:
        raise ConfigError(
            "fingerprint: the config is not resolved; call scaling.studies.study.resolve first"
        )
    canonical = json.dumps(to_identity(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def run_name(config: RunConfig) -> str:
    """Name of the run directory: readable sizes, then the fingerprint. For people only; nothing
    parses it.
    """
    model, train = config.model, config.train
    tokens = train.steps * train.batch_size * config.data.seq_len  # type: ignore[operator]
    sizes = f"w{model.width}-d{model.depth}-{_short(tokens)}tok-s{config.seed}"
    return f"{model.family}-{sizes}-{fingerprint(config)}"


def _short(count: float) -> str:
    for unit in ("", "k", "M", "G", "T"):
        if count < 1000:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g}P"
