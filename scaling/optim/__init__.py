"""How parameters are updated: pure functions of traced hyper-parameters. In come an OptimConfig and
gradients, out go new parameters and the optimizer's state (`optimizer.py`, `schedules.py`), or
those of each of several players (`players.py`).
"""

from scaling.optim.optimizer import (
    NOT_DECAYED,
    OPTIMIZERS,
    Info,
    Optimizer,
    decays,
    ema_update,
    offloads,
    on_device,
)
from scaling.optim.players import Optimizers, build
from scaling.optim.schedules import Hparams, hparams_shapes, learning_rate, schedule

__all__ = [
    "NOT_DECAYED",
    "OPTIMIZERS",
    "Hparams",
    "Info",
    "Optimizer",
    "Optimizers",
    "build",
    "decays",
    "ema_update",
    "hparams_shapes",
    "learning_rate",
    "offloads",
    "on_device",
    "schedule",
]
