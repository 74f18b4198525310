"""How much a run trains on: the one place where examples are multiplied by their units.

A unit is what the data are counted in: tokens of text, images. Takes a RunConfig; called wherever
an amount is said. No jax in this file.
"""

from scaling.config.choices import DataConfig
from scaling.config.contracts import Facts
from scaling.config.run import RunConfig
from scaling.errors import ConfigError


def resolved(value: int | None) -> int:
    """A field that `scaling.config.resolve` fills in, as the int it then is."""
    if value is None:
        raise ValueError("the config is not resolved; call studies.study.resolve first")
    return value


def units_per_step(config: RunConfig) -> int:
    """Units of one batch, over all devices."""
    return config.train.batch_size * config.data.units_per_example


def units(config: RunConfig) -> int:
    """Units that a resolved run trains on, repeats counted."""
    return resolved(config.train.steps) * units_per_step(config)


def unique_field(data: DataConfig) -> str:
    """The field that says how much of the train split is used, dotted."""
    return next(f"data.{name}" for name in data.__dataclass_fields__ if name.startswith("unique_"))


def check_subset(data: DataConfig, facts: Facts) -> None:
    """Of data whose examples are one unit each. Raises ConfigError for a nested training subset
    that is larger than the train split.
    """
    if data.unique_units is not None and data.unique_units > facts.train_examples:
        raise ConfigError(
            f"{unique_field(data)}={data.unique_units} is more than the train split has "
            f"({facts.train_examples} {data.unit}s)"
        )


def steps_of(config: RunConfig, amount: float) -> int:
    """Updates, at least one, that so many units last for."""
    return max(1, round(amount / units_per_step(config)))
