"""A decoder with a mixture of experts, on the standard library's source, byte tokens.

`configs/lm.py` with 8 experts, each as wide as its MLP, in every block; a token meets 2 of them,
and nothing is dropped. `:debug` is sized for seconds.
"""

import ml_collections

from configs import lm
from scaling.config import is_debug


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The base run; arg "debug" shrinks it."""
    config = lm.get_config(arg)
    config.model.moe.experts = 8
    config.model.moe.per_token = 2
    config.objective.load_balance = 0.01
    config.objective.router_z = 0.001
    if is_debug(arg):
        config.model.moe.experts = 4
    return config
