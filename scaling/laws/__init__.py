"""The law engine: tables of runs in, laws with honest intervals out.

Reads tables only. `LAWS` is the registry: adding a law is one entry. `fit` fits one, `holdout`
scores one on the largest runs, `backtest` on all runs that smaller ones foresee; they bring jax,
which the registry does without.
"""

import importlib
from typing import TYPE_CHECKING, Any

from scaling.laws import compression, corpora, downstream, forms, knowledge, schedules, tuning
from scaling.laws.law import Law
from scaling.laws.options import Options

if TYPE_CHECKING:
    from scaling.laws.backtests import Backtest, backtest
    from scaling.laws.extrapolation import Holdout, holdout
    from scaling.laws.fitting import fit
    from scaling.laws.outcomes import Prediction
    from scaling.laws.result import Fit

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        forms.POWER,
        forms.POWER_FLOOR,
        forms.COMPUTE,
        forms.BROKEN_POWER,
        forms.BROKEN_POWER_2,
        forms.M1,
        forms.M2,
        forms.M3,
        forms.M4,
        forms.KAPLAN,
        forms.CHINCHILLA,
        forms.CHINCHILLA_TIED,
        forms.WIDTH_DEPTH_TOKENS,
        forms.DATA_CONSTRAINED,
        forms.ROUTED,
        compression.PRECISION,
        compression.PRECISION_PARTS,
        compression.QUANTIZATION,
        compression.SPARSITY,
        compression.DISTILLATION,
        corpora.MIXTURE_2,
        corpora.MIXTURE_3,
        corpora.MIXTURE_4,
        corpora.CONTINUED,
        corpora.FORGETTING,
        corpora.VOCABULARY,
        corpora.CONTEXT,
        corpora.LOSS_TO_LOSS,
        tuning.BEST_LR,
        tuning.BEST_LR_COMPUTE,
        tuning.BEST_LR_SIZE,
        tuning.BEST_LR_TOKENS,
        tuning.BEST_BATCH,
        tuning.BEST_BATCH_COMPUTE,
        tuning.BEST_BATCH_SIZE,
        tuning.CRITICAL_BATCH,
        downstream.OVERTRAINING,
        downstream.ERROR,
        downstream.ACCURACY,
        downstream.TRANSFER,
        knowledge.CAPACITY,
        knowledge.CAPACITY_EXPOSURES,
        schedules.MULTI_POWER,
        schedules.ANNEALING,
    )
}

# Imported at first use.
_LATER = {
    "Backtest": "backtests",
    "backtest": "backtests",
    "Fit": "result",
    "Holdout": "extrapolation",
    "Prediction": "outcomes",
    "fit": "fitting",
    "holdout": "extrapolation",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)


__all__ = [
    "LAWS", "Backtest", "Fit", "Holdout", "Law", "Options", "Prediction", "backtest", "fit",
    "holdout",
]  # fmt: skip
