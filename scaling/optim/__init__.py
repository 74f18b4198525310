"""How parameters are updated: pure functions of traced hyper-parameters. In come an OptimConfig and
gradients, out go new parameters and the optimizer's state (`optimizer.py`, `schedules.py`), or
those of each of several players (`players.py`). What each parameter is (`roles.py`) says how it
follows the model's width and depth (`parametrization.py`).
"""

from scaling.optim.optimizer import (
    BY_ROLE,
    OPTIMIZERS,
    Info,
    Optimizer,
    averages,
    ema_update,
    offloads,
    on_device,
    restarted,
)
from scaling.optim.parametrization import Multipliers, Parametrization, parametrize
from scaling.optim.players import Optimizers, build
from scaling.optim.roles import NOT_DECAYED, Leaf, decays
from scaling.optim.schedules import Hparams, hparams_shapes, learning_rate, schedule

__all__ = [
    "BY_ROLE",
    "NOT_DECAYED",
    "OPTIMIZERS",
    "Hparams",
    "Info",
    "Leaf",
    "Multipliers",
    "Optimizer",
    "Optimizers",
    "Parametrization",
    "averages",
    "build",
    "decays",
    "ema_update",
    "hparams_shapes",
    "learning_rate",
    "offloads",
    "on_device",
    "parametrize",
    "restarted",
    "schedule",
]
