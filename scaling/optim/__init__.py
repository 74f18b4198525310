"""How parameters are updated: pure functions of traced hyper-parameters (`optimizer`). In come an
OptimConfig and gradients, out go new parameters and the optimizer's state.
"""

from scaling.optim.optimizer import (
    OPTIMIZERS,
    Hparams,
    Info,
    Optimizer,
    build,
    decays,
    ema_update,
    hparams,
    hparams_shapes,
    learning_rate,
    offloads,
    on_device,
    program_of,
    schedule,
)

__all__ = [
    "OPTIMIZERS",
    "Hparams",
    "Info",
    "Optimizer",
    "build",
    "decays",
    "ema_update",
    "hparams",
    "hparams_shapes",
    "learning_rate",
    "offloads",
    "on_device",
    "program_of",
    "schedule",
]
