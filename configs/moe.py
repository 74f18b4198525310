"""A decoder with a mixture of experts, on the standard library's source, byte tokens.

Every block has 8 experts and a token meets 2 of them: `configs/lm.py` with four times the MLP
parameters at the same FLOPs a token, nothing dropped. `:debug` is sized for seconds.
"""

import ml_collections

from configs import lm


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """The base run; arg "debug" shrinks it."""
    config = lm.get_config(arg)
    config.model.moe.experts = 8
    config.model.moe.per_token = 2
    config.model.moe.width = 176  # half of the dense model's: two experts cost what its MLP does
    config.objective.load_balance = 0.01
    config.objective.router_z = 0.001
    if arg == "debug":
        config.model.moe.experts = 4
        config.model.moe.width = 48
    return config
