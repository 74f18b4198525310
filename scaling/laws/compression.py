"""Laws of models that are cheaper to keep or to run: few bits, few weights, a teacher.

Each is one pure function and one `Law` entry, as in `forms.py`; `LAWS` in the package's `__init__`
lists them.
"""

from typing import Any

from scaling.laws.forms import FEW, FLOOR, exponent, scale, slope
from scaling.laws.later import jnp
from scaling.laws.law import Law, Parameter, Values, power

_KUMAR = "Kumar et al. 2024 (arXiv 2411.04330)"
_BITS = (0.7, 1.5, 3.0)  # over which a tensor's precision saturates


def _kept(bits: Any, over: Any) -> Any:
    """The share of the parameters that a tensor of so many bits is worth."""
    return -jnp.expm1(-bits / over)


def _chinchilla(p: Values, params: Any, tokens: Any) -> Any:
    data = p["B"] * power(tokens, -p["beta"])
    return p["E"] + p["A"] * power(params, -p["alpha"]) + data


def _precision(p: Values, c: Values) -> Any:
    return _chinchilla(p, c["params"] * _kept(c["bits"], p["G"]) ** 3, c["tokens"])


PRECISION = Law(
    "precision", "E + A / (params (1 - exp(-bits/G))^3)^alpha + B / tokens^beta",
    ("params", "tokens", "bits"),
    (FLOOR, scale("A"), scale("B"), exponent("alpha", FEW), exponent("beta", FEW),
     Parameter("G", grid=_BITS, low=1e-2, high=1e2)),
    _precision, f"{_KUMAR}, eq. 4 with weights, activations and cache alike",
    exponents=("alpha", "beta"), floor="E",
)  # fmt: skip


def _precision_parts(p: Values, c: Values) -> Any:
    kept = _kept(c["weight_bits"], p["G_w"]) * _kept(c["activation_bits"], p["G_a"])
    return _chinchilla(p, c["params"] * kept * _kept(c["cache_bits"], p["G_c"]), c["tokens"])


PRECISION_PARTS = Law(
    "precision_parts",
    "E + A / (params prod_i (1 - exp(-bits_i/G_i)))^alpha + B / tokens^beta; i weights, "
    "activations, cache",
    ("params", "tokens", "weight_bits", "activation_bits", "cache_bits"),
    (FLOOR, scale("A"), scale("B"), exponent("alpha", (0.2, 0.5)), exponent("beta", (0.2, 0.5)),
     *(Parameter(f"G_{i}", grid=(0.7, 2.0), low=1e-2, high=1e2) for i in "wac")),
    _precision_parts, f"{_KUMAR}, eq. 4", exponents=("alpha", "beta"), floor="E",
)  # fmt: skip


def _quantization(p: Values, c: Values) -> Any:
    grown = power(c["tokens"], p["b"]) * power(c["params"], -p["a"])
    return p["C"] * grown * jnp.exp(-p["r"] * c["bits"])


QUANTIZATION = Law(
    "quantization", "C tokens^b / params^a exp(-r bits)", ("params", "tokens", "bits"),
    (scale("C"), slope("a"), slope("b"), slope("r")), _quantization,
    f"{_KUMAR}, eq. 2, whose gamma is 1/r", exponents=("a", "b"), linear_in="log",
    target="loss_rise",
)  # fmt: skip


def _sparsity(p: Values, c: Values) -> Any:
    dense = p["A"] * power(c["density"], p["s"]) + p["C"]
    return (
        p["E"] + dense * power(c["params"], -p["alpha"]) + p["B"] * power(c["tokens"], -p["beta"])
    )


SPARSITY = Law(
    "sparsity",
    "E + (A density^s + C) / params^alpha + B / tokens^beta; density the share of weights that are "
    "not zero, params these alone",
    ("params", "tokens", "density"),
    (FLOOR, scale("A"), scale("C"), scale("B"), exponent("s", (0.3, 1.0)), exponent("alpha", FEW),
     exponent("beta", FEW)),
    _sparsity, "Frantar et al. 2023 (arXiv 2309.08520), eq. 1",
    exponents=("s", "alpha", "beta"), floor="E",
)  # fmt: skip


def _distillation(p: Values, c: Values) -> Any:
    teacher = c["teacher_loss"]
    size, data = power(p["N"] / c["params"], p["alpha"]), power(p["D"] / c["tokens"], p["beta"])
    # 1 + x as exp of a softplus, which does not overflow
    behind = jnp.log(teacher) - jnp.log(c["supervised_loss"]) - jnp.log(p["d1"])
    gap = jnp.exp(-p["c1"] * p["f1"] * jnp.logaddexp(0.0, behind / p["f1"]))
    return teacher + power(teacher, -p["c0"]) * gap * power(size + data, p["gamma"])


DISTILLATION = Law(
    "distillation",
    "teacher_loss + teacher_loss^-c0 (1 + (teacher_loss / (d1 supervised_loss))^(1/f1))^(-c1 f1) "
    "((N/params)^alpha + (D/tokens)^beta)^gamma; supervised_loss that of the student without a "
    "teacher",
    ("params", "tokens", "teacher_loss", "supervised_loss"),
    (Parameter("N", grid=(1e-2, 1.0, 1e2), unit="params"),
     Parameter("D", grid=(1e-2, 1.0, 1e2), unit="tokens"),
     exponent("alpha", (0.2, 0.5)), exponent("beta", (0.2, 0.5)),
     Parameter("gamma", grid=(0.4, 0.8), low=1e-2, high=5.0),
     Parameter("c0", grid=(0.5, 3.0), link="identity", low=-20.0, high=20.0),
     Parameter("c1", grid=(1.0, 10.0), low=1e-3, high=1e3),
     Parameter("d1", grid=(1.0, 1.5), low=0.1, high=10.0),
     Parameter("f1", grid=(0.1,), low=1e-2, high=10.0)),
    _distillation, "Busbridge et al. 2025 (arXiv 2502.08606), eq. 8, whose A' is N^alpha",
    exponents=("alpha", "beta", "gamma"),
)  # fmt: skip
