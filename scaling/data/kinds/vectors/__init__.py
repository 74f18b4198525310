"""Vectors with a known law: `power_law`, a linear teacher over Gaussian features of power-law
variance, and `sparse_parity`, many parities of few bits, some asked for more often than others.

The first is the task of Maloney, Roberts and Sully (2022), "A solvable model of neural scaling
laws", arXiv 2210.16859, whose test loss is known in closed form (`theory.py`), and, seen once, of
Lin et al. (2024), arXiv 2406.08466. Nothing is stored: an example is drawn when it is asked for
(`task.py`, `parity.py`).
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scaling.config.contracts import (
    AT_LEAST_ONE,
    ENDLESS,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    Facts,
    Kind,
    Shape,
    Truth,
)
from scaling.config.marks import added
from scaling.data.kinds.vectors.parity import SparseParity
from scaling.data.kinds.vectors.task import PowerLaw, Task, VectorExamples
from scaling.data.kinds.whole import WholeExamples
from scaling.data.store import key_of
from scaling.errors import ConfigError, SourceError, nearest


@dataclass(frozen=True)
class VectorsConfig(WholeExamples):
    """Vectors and the numbers to be predicted from them."""

    kind: Literal["vectors"] = "vectors"
    source: str = "power_law"  # the law that makes them
    features: int = 1024  # numbers that the model sees of an example; M in the paper
    targets: int = 1  # numbers to be predicted
    # The variance of feature i is in proportion to i^-(1 + alpha); or the frequency of parity i
    alpha: float = 1.0
    noise: float = 0.0  # standard deviation of what is added to every target
    examples: int | None = 65_536  # of the train split; None: it has no end
    validation_examples: int = 4096  # of the validation split, drawn apart from it
    unique_examples: int | None = (
        None  # size of the nested training subset; None: the whole train split
    )
    task_seed: int = 0  # of the teacher and of the examples
    seed: int | None = None  # order of the examples; None: the run's seed
    corpus: str | None = None  # hash of all that decides the examples; filled by resolve
    tasks: int = added(
        32
    )  # parities that there are: as many of the features say which is asked for
    bits: int = added(3)  # that a parity is of


LAWS = ("power_law", "sparse_parity")
_RULE = "unit Gaussians by key of (task, split), example and feature; variances sum to 1; v1"
_PARITY_RULE = "by key of (task, split) and example; v1"


def _task(data: VectorsConfig) -> Task:
    """Raises SourceError for a law that there is none of."""
    if data.source == "power_law":
        return PowerLaw(data.features, data.targets, data.alpha, data.noise, data.task_seed)
    if data.source == "sparse_parity":
        return SparseParity(data.features, data.tasks, data.bits, data.alpha, data.task_seed)
    raise SourceError(
        f'source "{data.source}" is no law of vectors{nearest(data.source, LAWS)}; write '
        f"{' or '.join(LAWS)}"
    )


def facts(data: VectorsConfig, train: VectorsConfig, root: Path) -> Facts:
    """See `Kind.facts`. Touches no file. Raises SourceError for an unknown law."""
    del train, root
    return Facts(
        content_hash=_content(data),
        train_examples=data.examples or ENDLESS,
        validation_examples=data.validation_examples,
        sizes={"features": data.features, "targets": data.targets},
    )


def _content(data: VectorsConfig) -> str:
    counts = [data.examples, data.validation_examples]
    task: Any = _task(data)
    rule = _RULE if data.source == "power_law" else _PARITY_RULE
    return key_of([data.source, dataclasses.astuple(task), counts, rule])


def examples(data: VectorsConfig, train: VectorsConfig, split: str, root: Path) -> VectorExamples:
    """See `Kind.examples`; "all" is the validation split, then the train split. Raises SourceError
    where they are not those of `data.corpus`.
    """
    del train, root
    if data.corpus not in (None, found := _content(data)):
        raise SourceError(
            f"{data.corpus} is wanted, but the examples are now {found}: they are drawn in another "
            "way, or the config was changed; start a new run",
            "corpus",
        )
    counts = {"validation": data.validation_examples, "train": data.examples or ENDLESS}
    chosen = counts if split == "all" else {split: counts[split]}
    return VectorExamples(_task(data), tuple(chosen.items()))


def resolve(data: VectorsConfig, facts: Facts) -> VectorsConfig:
    """Nothing is left to fill in. Raises ConfigError for a subset larger than the train split, and
    for sizes that the law cannot have.
    """
    if data.unique_examples is not None and data.unique_examples > facts.train_examples:
        raise ConfigError(
            f"data.unique_examples={data.unique_examples} is more than data.examples="
            f"{facts.train_examples}"
        )
    if data.source == "sparse_parity":
        if data.features < data.tasks + data.bits:
            raise ConfigError(
                f"data.features={data.features} are not enough for data.tasks={data.tasks}, which "
                f"have one each, and data.bits={data.bits} bits"
            )
        if data.targets != 1 or data.noise:
            raise ConfigError(
                "data.source=sparse_parity has one target and no noise; leave data.targets and "
                "data.noise unset"
            )
    return data


def truth(data: VectorsConfig) -> Truth:
    """See `Kind.truth`."""
    return _task(data).truth()


def shapes(data: VectorsConfig) -> dict[str, Shape]:
    """See `Kind.shapes`."""
    return {
        "features": ((data.features,), "float32"),
        "targets": ((data.targets,), "float32"),
        "weight": ((), "float32"),
    }


def shared(data: VectorsConfig, split: str, train: VectorsConfig, root: Path) -> int:
    """Examples that training sees too: the train split of the same task, where it is part of what
    is evaluated.
    """
    del root
    same = data.source == train.source and _task(data) == _task(train)
    return (
        min(data.examples or ENDLESS, train.examples or ENDLESS)
        if same and split != "validation"
        else 0
    )


_COUNTS = ("features", "targets", "examples", "validation_examples", "unique_examples")
_OF_PARITY = ("data.tasks", "data.bits")
_RANGES: Any = (
    ((*_COUNTS, "tasks", "bits"), AT_LEAST_ONE),
    (("alpha",), POSITIVE),
    (("noise",), NOT_NEGATIVE),
    (("task_seed",), SEED),
)

KIND = Kind(
    config=VectorsConfig,
    fields=frozenset({"features", "targets", "weight"}),
    weights=("weight",),
    facts=facts,
    examples=examples,
    resolve=resolve,
    shapes=shapes,
    shared=shared,
    truth=truth,
    about=lambda data, root: {} if data.examples is None else {"unique": data.examples},
    ranges=_RANGES,
    idle=(
        (
            _OF_PARITY,
            lambda config: config.data.source == "sparse_parity",
            "data.source=sparse_parity",
        ),
    ),
)
