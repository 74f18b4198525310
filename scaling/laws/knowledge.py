"""Laws of what models know by heart.

Each is one pure function and one `Law` entry, as in `forms.py`; `LAWS` in the package's `__init__`
lists them.
"""

from typing import Any

from scaling.laws.law import Law, Parameter, Values, power

_ALLEN_ZHU = "Allen-Zhu and Li 2024 (arXiv 2404.05405)"
_RATIO = Parameter("R", grid=(0.5, 1.0, 2.0, 4.0), low=1e-4, high=64.0)
# How sharply what there is gives way to what there is room for; the plain minimum at infinity.
_SHARPNESS = Parameter("k", grid=(1.0, 2.0, 5.0), low=0.2, high=50.0)


def _least(there: Any, room: Any, sharpness: Any) -> Any:
    """A smooth minimum, below both: (there^-k + room^-k)^(-1/k)."""
    return there * power(1 + power(there / room, sharpness), -1 / sharpness)


def _capacity(p: Values, c: Values) -> Any:
    return _least(c["total_bits"], p["R"] * c["params"], p["k"])


CAPACITY = Law(
    "capacity",
    "(total_bits^-k + (R params)^-k)^(-1/k): min(total_bits, R params), its corner rounded",
    ("params", "total_bits"), (_RATIO, _SHARPNESS), _capacity,
    f"{_ALLEN_ZHU}, the peak capacity ratio R(F) of section 3; the corner is ours",
    exponents=("R",), target="known_bits",
)  # fmt: skip


def _exposures(p: Values, c: Values) -> Any:
    room = p["R"] * c["params"] / (1 + p["e"] / c["exposures"])
    return _least(c["total_bits"], room, p["k"])


CAPACITY_EXPOSURES = Law(
    "capacity_exposures",
    "(total_bits^-k + (R params / (1 + e/exposures))^-k)^(-1/k); at e exposures half of R is there",
    ("params", "total_bits", "exposures"),
    (_RATIO, _SHARPNESS, Parameter("e", grid=(10.0, 100.0, 1000.0), low=1e-2, high=1e6)),
    _exposures,
    f"{_ALLEN_ZHU}: 2 bits a parameter of 1,000 exposures, 1 of 100, which are R = 2.25 and "
    "e = 125; the form is ours",
    exponents=("R",), target="known_bits",
)  # fmt: skip
