"""The model of a run's teacher, as the config of the taught run carries it: JSON, so that the
program of the step is known without the teacher's directory. No jax in this file.
"""

import json
from typing import Any

from scaling.config import choices, nested
from scaling.config.choices import ModelConfig
from scaling.config.run import RunConfig
from scaling.errors import ConfigError


def described(model: ModelConfig) -> str:
    """What `distill.teacher` says of a resolved model."""
    return json.dumps(nested.plain(model), sort_keys=True, separators=(",", ":"))


def teacher(config: RunConfig) -> Any:
    """The model of a resolved run's teacher. Raises ConfigError where it is not said."""
    text = config.distill.teacher
    if text is None:
        raise ConfigError(
            f"distill.weight={config.distill.weight}: what model begins.run={config.begins.run} is "
            "of is not known by its fingerprint alone; give its directory as begins.run"
        )
    values = json.loads(text)
    return nested.read(values, choices.config_class("model", values), "distill.teacher")
