"""The law engine: tables of runs in, laws with honest intervals out.

Reads tables only. `LAWS` is the registry: adding a law is one entry. `fit` fits one, `holdout`
scores one on the largest runs.
"""

from scaling.laws import forms, schedules
from scaling.laws.extrapolation import Holdout, holdout
from scaling.laws.fitting import fit
from scaling.laws.law import Law
from scaling.laws.result import Fit, Prediction

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
        forms.BEST_LR,
        forms.BEST_BATCH,
        forms.ACCURACY,
        schedules.MULTI_POWER,
    )
}

__all__ = ["LAWS", "Fit", "Holdout", "Law", "Prediction", "fit", "holdout"]
