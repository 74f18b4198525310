"""The law engine: tables of runs in, laws with honest intervals out.

Reads tables only. `LAWS` is the registry: adding a law is one entry. `fit` fits one, `holdout`
scores one on the largest runs.
"""

from scaling.laws.extrapolation import Holdout, holdout
from scaling.laws.fitting import fit
from scaling.laws.forms import CHINCHILLA, POWER, POWER_FLOOR
from scaling.laws.law import Law
from scaling.laws.result import Fit, Prediction

LAWS: dict[str, Law] = {law.name: law for law in (POWER, POWER_FLOOR, CHINCHILLA)}

__all__ = ["LAWS", "Fit", "Holdout", "Law", "Prediction", "fit", "holdout"]
