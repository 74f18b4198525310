"""What the rest of the house knows of a family of models, a kind of data, an objective or a
transform of parameters: a record of pure functions each.

The rooms `scaling/families`, `scaling/data/kinds`, `scaling/objectives` and `scaling/transforms`
fill them in, `choices.py` finds them. Everything here is read without jax: what needs it is given
as "module:NAME", which is imported at its first use.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from scaling.config.run import RunConfig

# A callable, or the place of one whose module is imported at its first use.
Lazy = Callable[..., Any] | str


# ---- checks that a choice brings

# Dotted fields of the group ("width", "moe.experts"), what must hold of a value, in words.
Range = tuple[tuple[str, ...], tuple[Callable[[float], bool], str]]
# Dotted fields of the run, whether anything reads them, what to give so that it does.
Idle = tuple[tuple[str, ...], Callable[["RunConfig"], bool], str]

AT_LEAST_ONE: tuple[Callable[[float], bool], str] = (lambda v: v >= 1, "be at least 1")
POSITIVE: tuple[Callable[[float], bool], str] = (lambda v: v > 0, "be positive")
POSITIVE_OR_OFF: tuple[Callable[[float], bool], str] = (
    lambda v: v > 0,
    "be positive, or unset for off",
)
NOT_NEGATIVE: tuple[Callable[[float], bool], str] = (lambda v: v >= 0, "not be negative")
SHARE: tuple[Callable[[float], bool], str] = (lambda v: 0 <= v <= 1, "lie between 0 and 1")
WITHIN: tuple[Callable[[float], bool], str] = (lambda v: 0 < v < 1, "lie between 0 and 1")
DECAY: tuple[Callable[[float], bool], str] = (lambda v: 0 <= v < 1, "be at least 0 and below 1")
SEED: tuple[Callable[[float], bool], str] = (
    lambda v: 0 <= v < 2**32,
    "be at least 0 and below 2^32",
)


# ---- data


# `Facts.train_examples` of data that have no end: examples are drawn from so many, each once.
ENDLESS = 2**60


@dataclass(frozen=True)
class Facts:
    """What `resolve` must know of prepared data."""

    content_hash: str  # of all that decides the examples: contents, split, preparation
    train_examples: int  # rows of the train split
    validation_examples: int  # likewise, of the validation split
    # What a model is built for, by name: tokens that there are, height, channels, classes, targets.
    # A family takes what it needs in its `resolve`.
    sizes: Mapping[str, int] = field(default_factory=dict)


# Shape of one example and name of its dtype.
Shape = tuple[tuple[int, ...], str]


class Examples(Protocol):
    """The examples of one split, by number. Picklable: other processes may take them."""

    def __len__(self) -> int:
        """How many there are."""

    def take(self, indices: Any, keys: Any = None) -> dict[str, Any]:
        """The arrays [B, ...] of the examples `indices` (int64 [B]).

        `keys`: uint64 [B], of which whatever is drawn anew each time an example is seen must be a
        pure function (crops, masks); None, in evaluation: nothing is drawn.
        """


@dataclass(frozen=True)
class Truth:
    """What theory says of the numbers that models reach on some data: tables have it beside what
    was measured, fits are held against it, and figures draw it.
    """

    source: str  # whose theory, or that it is exact
    of: str = "loss"  # the column of what is measured
    floor: float | None = None  # what it tends to as models and data grow, in its own unit
    floor_error: float = 0.0  # standard error of the floor, where that was estimated
    # Column of the table -> power of it that the distance from the floor falls with, where all else
    # is plenty: "width", "params", "amount" (of data seen once), "unique" (of data fitted whole).
    exponents: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """A kind of data."""

    config: type  # a DataConfig
    fields: frozenset[str]  # arrays of a batch, each [B, ...]; a config with `label` has `classes`
    weights: tuple[str, ...]  # of those, what is 0 in rows that only fill up a batch
    # (data, that of the training run, folder of prepared data) -> Facts. The only functions with
    # files. Raise DataError, and SourceError for what a source's name does not give.
    facts: Callable[[Any, Any, Path], Facts]
    # (data, that of the training run, split: train, validation or all, folder) -> Examples
    examples: Callable[[Any, Any, str, Path], Examples]
    shapes: Callable[[Any], dict[str, Shape]]  # of one example, by field, of resolved data
    # Names of `Facts.sizes` that it and its models are built for. Where a model states them all
    # (`Family.stated`), a plan reads no data.
    sizes: frozenset[str] = frozenset()
    # (data with what follows from the facts filled in). `corpus` and `seed` are filled elsewhere.
    resolve: Callable[[Any, Facts], Any] = lambda data, facts: data
    # (evaluation data, its split, training data, folder) -> examples that training sees too
    shared: Callable[[Any, str, Any, Path], int] = lambda data, split, train, root: 0
    truth: Callable[[Any], Truth | None] = lambda data: None  # (data) -> what is known of its law
    # (resolved data, folder) -> what is known of data that are prepared, for the run's record:
    # "unique", the distinct units of the train split, and whatever the kind's own are. Prepares
    # nothing.
    about: Callable[[Any, Path], dict[str, Any]] = lambda data, root: {}
    # (data, units) -> the data with examples of so many units, where their length is a choice
    shortened: Callable[[Any, int], Any] = lambda data, units: data
    # (data) -> how often each secret stands that is planted in the train split; none: nothing is
    repeats: Callable[[Any], tuple[int, ...]] = lambda data: ()
    # (data, repeats, folder) -> the secrets that stand there so often, and others like them;
    # `planted` [B] of a batch says which
    planted: Callable[[Any, int, Path], Examples] | None = None
    # Fields that a family must read to be trained on it: without them it would learn another task
    asks: frozenset[str] = frozenset()
    # (data, folder) -> what turns text into the numbers of an example and back
    tokenizer: Callable[[Any, Path], Any] | None = None
    # (config, files of a tokenizer of others by name, tokens before each document and before a text
    # that is written, its folder) -> the config with that tokenizer, which is kept in the folder.
    # Raises UserError. None: it has its own
    adopt: Callable[[Any, Mapping[str, bytes], tuple[int | None, int | None], Path], Any] | None = (
        None
    )
    # (data, lines of examples to show, folder) -> what they hold, in words and as JSON
    inspect: Callable[[Any, int, Path], tuple[str, dict[str, Any]]] | None = None
    ranges: tuple[Range, ...] = ()
    idle: tuple[Idle, ...] = ()


# ---- metrics


@dataclass(frozen=True)
class Metric:
    """How a measured number is finished, called and judged.

    What a row of a batch gives is a statistic of any shape that adds up over rows, batches, hosts
    and members of a packed group; `finish` turns the sum of all into the number.
    """

    label: str  # on axes and in tables: "loss", "accuracy"
    unit: str = ""  # of the number: "bits/byte"; "": a bare number
    better: Literal["lower", "higher"] = "lower"
    # float64 array of the statistic's shape -> number. None: it is (total, count), and the number
    # is total / count.
    finish: Callable[[Any], float] | None = None
    tabled: bool = True  # a column of the table of runs
    meaning: str = ""  # how it is reckoned, where label and unit do not say it; beside the table


def columns(metrics: Mapping[str, Metric]) -> list[str]:
    """The numbers of an evaluation that a table of runs has, with their standard errors."""
    found = []
    for name, metric in metrics.items():
        if metric.tabled:
            found += [name] + [f"{name}_se"] * (name == "loss" or metric.finish is not None)
    return found


# ---- families


@dataclass(frozen=True)
class Size:
    """Counts of a resolved model."""

    params: int  # all
    params_non_embedding: int  # without tables that are looked up (and without an untied head)
    params_active: int  # all but the experts that a token is not sent to
    # Training, forward and backward, of all matmuls and convolutions, a unit of data (a token)
    flops_per_unit: float


@dataclass(frozen=True)
class Rule:
    """How models of a family usually grow, where no recipe says it."""

    said: str  # in words
    # (config, params, sizes of `Facts`) -> overrides ("model.width": ...) of the model whose params
    # are nearest to these, by the rule's own count, and that count
    shape: Callable[[Any, float, Mapping[str, float]], tuple[dict[str, Any], int]]


@dataclass(frozen=True)
class Roles:
    """What the logical axes of a family's parameters do not say of them (`optim/roles.py`).

    Each is patterns of paths (`optim.subtree.matches`): names, several in a row, * for any
    characters.
    """

    outputs: tuple[str, ...] = ()  # tables [vocabulary, width] that make the output, not the input
    # Gains in front of an output matrix that is the input's table too: the output's factor is here
    tied: tuple[str, ...] = ()
    attention: tuple[str, ...] = ()  # what the attention logits are linear in
    blocks: tuple[str, ...] = ()  # all of the residual blocks, as many as `depth` says
    branches: tuple[str, ...] = ()  # of those, what the sum that a branch adds is linear in
    branch_init: float = 0.0  # initial std of `branches` ~ depth ^ this


@dataclass(frozen=True)
class Family:
    """A family of models."""

    config: type  # a ModelConfig
    module: Lazy  # (config) -> flax module: `apply({"params": params}, batch)` -> dict of outputs
    reads: frozenset[str]  # fields of a batch
    gives: frozenset[str]  # outputs; where the data decide what is read out, all that may be
    # Derived sizes filled in. Raises ConfigError
    resolve: Callable[[Any, Facts], Any] = lambda config, facts: config
    # (config, width, depth) -> overrides ("model.width": ...) of a model of that width and depth in
    # the proportions of the config. Raises ConfigError for a width that it cannot have
    scaled: Callable[[Any, int, int], dict[str, Any]] = lambda config, width, depth: {
        "model.width": width,
        "model.depth": depth,
    }
    width_step: Callable[[Any], int] = lambda config: 8  # the widths that ladders try are multiples
    rule: "Rule | None" = None  # of thumb, for plans without a recipe
    # (config) -> roles of parameters beyond their axes. Raises ConfigError for a model whose
    # parameters no parametrization can scale
    roles: Callable[[Any], Roles] = lambda config: Roles()
    # (config) -> the sizes of `Facts` that the config states by itself, so that it can be planned
    # without data; None: it does not
    stated: Callable[[Any], Mapping[str, int] | None] = lambda config: None
    # (config, data) -> Size in closed form; None: counted from the program, the same numbers
    size: Callable[[Any, Any], Size] | None = None
    # (config, data) -> training FLOPs a unit by the conventions of the literature, by name; a model
    # that has none is counted by its matmuls alone
    conventions: Callable[[Any, Any], dict[str, float]] | None = None
    # (config, data) -> training FLOPs a unit of each kind of matmul, in closed form
    by_kind: Callable[[Any, Any], dict[str, float]] | None = None
    # Axes of the mesh, beside those of the batch, fsdp and tensor, that the module can be cut along
    axes: frozenset[str] = frozenset()
    # (config, stages) -> pieces of a batch in a pipeline, and how often each passes every stage
    pipeline: Callable[[Any, int], tuple[int, int]] = lambda config, stages: (1, 1)
    # (config) -> what its matmuls of 8 bits are in ("int8"), and in which parts of the ledger
    eight_bits: Callable[[Any], tuple[str, frozenset[str]] | None] = lambda config: None
    # (config, units of an example) -> a tiny model of the same form, in float32, and the units of
    # its examples: what debugging looks into closely
    shrunk: Callable[[Any, int], tuple[Any, int]] | None = None
    # Continues sequences: (config, params, prompts, ...) as the command `generate` calls it
    generate: Lazy | None = None
    # What reads tokens one after the other with a cache: a `families.decoding.Reader`
    reader: Lazy | None = None
    # The architectures of others that its models can be: tuple of `families.exchanged.Architecture`
    exchange: Any = ()
    # Writes the target of a source, where the family reads one: (config, params or a tuple of those
    # of several, source, source_segments, max_new, separator, beams, token before the target) ->
    # tokens int32 [B, max_new]
    translate: Lazy | None = None
    # Writes what is said in a batch of sounds: (config, params, batch, max_new, beams) -> tokens
    # int32 [B, max_new], filled up with the tokenizer's separator, and their log-probability
    transcribe: Lazy | None = None
    # (config, devices along each mesh axis) -> the model that one device computes, for the memory
    # model. None: the whole of it
    part: Callable[[Any, Mapping[str, int]], Any] | None = None
    # (config) -> the config of the same model whose program can be read, with no opaque kernels
    readable: Callable[[Any], Any] = lambda config: config
    remats: tuple[str, ...] = ("none",)  # values of `remat`, in the order in which they save memory
    causal: bool = False  # the output of a place depends on it and on earlier places only
    ranges: tuple[Range, ...] = ()
    idle: tuple[Idle, ...] = ()


# ---- objectives


@dataclass(frozen=True)
class Player:
    """One of several that are trained at once, each on a loss and on parameters of its own.

    The parameters of the others are constants to it. Every player has an optimizer of the run's
    kind, with a state and a norm to be clipped by of its own.
    """

    name: str  # of what it minimises in `objectives.Rows.minimised`, and of its optimizer's state
    parameters: frozenset[str]  # top-level names of the parameters that are its own
    # Traced fields of the objective: updates are made in every so many steps (None: in each), and
    # the peak learning rate is so many times optim.peak_lr (None: once)
    every: str | None = None
    rate: str | None = None


@dataclass(frozen=True)
class Objective:
    """What is minimised."""

    config: type  # an ObjectiveConfig
    rows: Lazy  # (config) -> `objectives.Loss`
    outputs: frozenset[str]  # that it needs of a family
    fields: frozenset[str]  # that it needs of a batch
    metrics: Mapping[str, Metric]  # what it measures; the first, "loss", is what laws are fitted to
    players: tuple[Player, ...] = ()  # none: all parameters are trained on one loss
    # Field of a batch that weighs the predictions, of logits over classes, that a teacher's can be
    # held against; None: there are none
    soft: str | None = None
    couples_rows: bool = False  # a row's loss depends on the others: microbatches are refused
    ranges: tuple[Range, ...] = ()
    idle: tuple[Idle, ...] = ()


# ---- transforms


@dataclass(frozen=True)
class Transform:
    """What lies between the parameters as they are stored and as the model uses them, and which of
    them are trained.
    """

    config: type  # a TransformConfig
    # (config, `transforms.transform.Leaves`) -> `transforms.transform.Functions`. None: stored as
    # they are used, all trained
    functions: Lazy | None
    label: Callable[[Any], str]  # (config) -> what was trained, in a word or two: "whole"
    stored_as_used: bool = True  # the parameters, but for which of them are trained
    measures: tuple[str, ...] = ()  # of the lines of training, columns of the table
    # (config) -> bits of a weight as it is used, of those that it changes; None: those it is stored
    bits: Callable[[Any], float | None] = lambda config: None
    ranges: tuple[Range, ...] = ()
    idle: tuple[Idle, ...] = ()
