"""The laws of loss against size, data and compute.

Each is one function of a dozen characters or lines and one `Law` entry: formula, columns,
parameters with bounds and starting grid, and the paper it comes from. `LAWS` in the package's
`__init__` collects them; `schedules.py` and `mixtures.py` hold those that need more than a formula.
"""

from typing import Any

from scaling.laws.law import Law, Parameter, Values, power

_EXPONENT = (0.03, 0.08, 0.15, 0.25, 0.35, 0.5, 0.7, 1.0, 1.5)
_FLOOR = Parameter("E", link="identity", linear=True)


def _scale(name: str) -> Parameter:
    return Parameter(name, linear=True)


def _exponent(name: str, grid: tuple[float, ...] = _EXPONENT) -> Parameter:
    return Parameter(name, grid=grid, link="identity", high=5.0)


def _power(p: Values, c: Values) -> Any:
    return p["A"] * power(c["x"], -p["alpha"])


def _power_floor(p: Values, c: Values) -> Any:
    return p["E"] + p["A"] * power(c["x"], -p["alpha"])


def _chinchilla(p: Values, c: Values) -> Any:
    size = p["A"] * power(c["params"], -p["alpha"])
    return p["E"] + size + p["B"] * power(c["tokens"], -p["beta"])


POWER = Law(
    "power", "A x^-alpha", ("x",), (_scale("A"), _exponent("alpha")), _power,
    "Hestness et al. 2017 (arXiv 1712.00409)", exponents=("alpha",),
)  # fmt: skip
POWER_FLOOR = Law(
    "power_floor", "E + A x^-alpha", ("x",), (_FLOOR, _scale("A"), _exponent("alpha")),
    _power_floor, "Henighan et al. 2020 (arXiv 2010.14701), eq. 1.1",
    exponents=("alpha",), floor="E",
)  # fmt: skip
CHINCHILLA = Law(
    "chinchilla", "E + A / params^alpha + B / tokens^beta", ("params", "tokens"),
    (_FLOOR, _scale("A"), _scale("B"), _exponent("alpha"), _exponent("beta")), _chinchilla,
    "Hoffmann et al. 2022 (arXiv 2203.15556), eq. 10", exponents=("alpha", "beta"), floor="E",
)  # fmt: skip
