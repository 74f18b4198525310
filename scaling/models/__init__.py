"""Model families: `MODELS` maps `config.model.family` to its Flax module.

A family takes its frozen config, maps a batch (a dict of named arrays) to a dict of named outputs,
and names the logical axes of every parameter. `scaling/train` and `scaling/costs/counts.py` call
`build`.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from scaling.models.transformer import Transformer

MODELS: dict[str, Callable[[Any], nn.Module]] = {"transformer": Transformer}


def build(config: Any) -> nn.Module:
    """The module of a resolved model config: `module.apply({"params": params}, batch) -> dict`."""
    return MODELS[config.family](config)
