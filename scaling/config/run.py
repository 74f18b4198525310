"""What a run is: frozen dataclasses, made once from a ConfigDict.

`configs/*.py` start from `base_config()`, a locked ConfigDict with every field at its default, and
change some. `from_dict` turns it, strictly, into a `RunConfig` (`reading.py`); `resolve.py` then
fills every value that follows from others. Past that nothing in a RunConfig is left to be guessed.
Defaults live in the dataclasses and nowhere else; those of model, data and objective stand beside
what they describe (`choices.py`). No jax in this file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from scaling.config import choices
from scaling.config.choices import DataConfig, ModelConfig, ObjectiveConfig, TransformConfig
from scaling.config.marks import added, execution, traced


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
    # answers: whether all that counts in an example is right. facts: and how many bits of it
    # are known. exposure: of planted secrets.
    # attack: as rows, of examples that are moved to where the loss is larger. lens: as rows, of the
    # model cut short. induction: of random text that is read twice (`scaling/config/passes.py`)
    by: Literal[
        "rows",
        "features",
        "generate",
        "answers",
        "facts",
        "exposure",
        "attack",
        "lens",
        "induction",
    ] = added("rows")
    fit_batches: int = added(16)  # batches of training examples that a probe is fitted to
    shots: int | None = added(None)  # examples of each class that a probe is fitted to; None: all
    ridge: float = added(1e-3)  # penalty of a probe's weights, over the features' mean variance
    prompt: int | None = added(None)  # tokens that are continued; None: three quarters of a window
    continuation: int | None = added(None)  # tokens that are generated; None: the other quarter
    copies: bool = added(False)  # what is continued is half as much text, written twice
    corruption: str | None = added(None)  # as data.corruption; None: as data.corruption is
    severity: int | None = added(None)  # of the corruption, 1 to 5; None: 3
    permutation: int | None = added(None)  # as data.permutation
    labels: str | None = added(None)  # as data.labels
    beams: int = added(1)  # texts that are followed at once where a source is translated; 1: greedy
    repeats: int | None = added(None)  # of the secrets of an exposure; None: the most
    epsilon: float = added(0.1)  # of an attack: by how much each number may be moved
    steps: int = added(10)  # of an attack; 1: along the gradient's sign
    # Blocks that are applied, of a lens (None: all); of features, blocks behind which the stream is
    # probed, the mean over its places (None: the family's own features)
    blocks: int | None = added(None)


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

    # By how much each number of an image or vector may be moved, in the data's units; of tokens, of
    # what they are looked up as, in units of its root mean square over the row; 0: off
    epsilon: float = 0.0
    steps: int = 1  # 1: along the gradient's sign; more: projected gradient ascent


@dataclass(frozen=True)
class PrivacyConfig:
    """Differentially private training: clipped gradients and noise (`train/private.py`)."""

    clip_norm: float | None = None  # of each example's gradient; None: off
    noise: float = 1.0  # standard deviation of the sum's noise, over clip_norm
    delta: float = 1e-5  # chance of failure that the run's epsilon is said for


@dataclass(frozen=True)
class FederatedConfig:
    """Clients that train by themselves, each on examples of its own, and are averaged after each
    round: an update of the run (`train/federated.py`, `data/clients.py`).
    """

    clients: int | None = None  # into which the training set is dealt; None: off
    per_round: int = 10  # of them, that take part in an update of the run
    local_steps: int = 1  # updates of each of these, by plain gradient descent
    local_lr: float = traced(0.1)  # the rate of these updates
    # Share of a client's examples that are of one part of the data: of few classes where they have
    # labels, else of one place in its order; the rest are of anywhere
    skew: float = 0.0


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
    # Of teacher and student; jsd: Jensen and Shannon's, with `beta` of the teacher in the middle
    divergence: Literal["forward", "reverse", "jsd"] = added("forward")
    beta: float = added(0.5)
    # Weight of how far the student's last states are, through a linear map that is learned with
    # them, from the teacher's, in these' squares; 0: off
    features: float = traced(0.0, common=1.0, off=0.0, added=True)
    # Share of the rows on which the teacher is asked of what the student itself writes; 0: off
    on_policy: float = added(0.0)
    prompt: int | None = added(None)  # tokens of such a row that are the data's; None: half


@dataclass(frozen=True)
class EwcConfig:
    """Elastic weight consolidation: the run in `begins.run` holds on to each weight by how much its
    predictions depend on it (`scaling/train/consolidation.py`).
    """

    # The loss has half of this times the sum of F (w - w before)^2, F the Fisher information of a
    # prediction; 0: off
    weight: float = traced(0.0, common=1.0, off=0.0)
    batches: int = 64  # of that run's own that F is estimated from
    decay: float = 1.0  # times the F that it held on by itself, which is added; 0: its data alone


@dataclass(frozen=True)
class MixtureConfig:
    """Further data that training reads: of evaluation sets, their train splits
    (`scaling/data/mixing.py`).
    """

    # Evaluation set -> share of the rows of training that are its; `data` has the rest
    shares: Mapping[str, float] = field(default_factory=dict)
    memory: int | None = None  # examples of each that are drawn from; None: all


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
    ewc: EwcConfig = field(default=EwcConfig(), metadata={"added": True})
    mixture: MixtureConfig = field(default=MixtureConfig(), metadata={"added": True})
    augment: AugmentConfig = field(default=AugmentConfig(), metadata={"added": True})
    attack: AttackConfig = field(default=AttackConfig(), metadata={"added": True})
    privacy: PrivacyConfig = field(default=PrivacyConfig(), metadata={"added": True})
    federated: FederatedConfig = field(default=FederatedConfig(), metadata={"added": True})
    energy: EnergyConfig = field(default=EnergyConfig(), metadata={"execution": True})
    # Hash of the weights that it has by `launch.py import`, and not by training
    imported: str | None = added(None)


# Training lengths, of which a config gives one.
LENGTHS = ("steps", "tokens", "units", "epochs", "flops", "tokens_per_param", "units_per_param")
