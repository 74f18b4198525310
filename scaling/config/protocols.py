"""The fields that every model, kind of data, objective and transform has: what the rest of the
house may read of a choice (`choices.py`). No jax in this file.
"""

from typing import Any, ClassVar, Protocol


class Choice(Protocol):
    """A frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


class ModelConfig(Choice, Protocol):
    """The fields of every family."""

    @property
    def family(self) -> str:
        """Key of `scaling.families.FAMILIES`; the first field."""

    @property
    def width(self) -> int:
        """Channels, of whatever makes this family wide."""

    @property
    def depth(self) -> int:
        """Blocks, layers or stages' blocks, of whatever makes it deep."""

    @property
    def dtype(self) -> str:
        """Of activations and matmuls: float32 or bfloat16."""

    @property
    def remat(self) -> str:
        """What the backward pass computes again; "none"."""

    @property
    def init_scale(self) -> float:
        """Of every matrix's initial standard deviation, over its default; traced."""


class DataConfig(Choice, Protocol):
    """The fields of every kind of data, and what follows from them."""

    @property
    def kind(self) -> str:
        """Key of `scaling.data.kinds.KINDS`; the first field."""

    @property
    def source(self) -> str:
        """Where it comes from."""

    @property
    def seed(self) -> int | None:
        """Of the order of the examples; None: the run's."""

    @property
    def corpus(self) -> str | None:
        """Content hash; filled by resolve."""

    @property
    def unit(self) -> str:
        """What the amount of training is counted in, in the singular: token, image, example."""

    @property
    def units_per_example(self) -> int:
        """Units of one row of a batch."""

    @property
    def unique_units(self) -> int | None:
        """Size of the nested training subset; None: the whole train split."""


class ObjectiveConfig(Choice, Protocol):
    """The fields of every objective."""

    @property
    def name(self) -> str:
        """Key of `scaling.objectives.OBJECTIVES`; the first field."""


class TransformConfig(Choice, Protocol):
    """The fields of every transform of parameters."""

    @property
    def name(self) -> str:
        """Key of `scaling.transforms.TRANSFORMS`; the first field."""
