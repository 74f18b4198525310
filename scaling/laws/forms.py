"""The laws of loss against size, data and compute, each a few lines.

A law is one pure function and one `Law` entry: formula, columns, parameters with bounds and
starting grid, and the paper it comes from. `LAWS` in the package's `__init__` collects them;
`compression.py`, `corpora.py`, `downstream.py`, `tuning.py` and `schedules.py` hold the others.
"""

from typing import Any

from scaling.laws.later import jax, jnp
from scaling.laws.law import Law, Parameter, Values, power

_EXPONENTS = (0.03, 0.08, 0.15, 0.25, 0.35, 0.5, 0.7, 1.0, 1.5)
FEW = (0.08, 0.25, 0.5, 1.0)
FLOOR = Parameter("E", link="identity", linear=True)


def scale(name: str) -> Parameter:
    """A positive factor that the prediction is linear in."""
    return Parameter(name, linear=True)


def exponent(name: str, grid: tuple[float, ...] = _EXPONENTS) -> Parameter:
    """An exponent that is not negative."""
    return Parameter(name, grid=grid, link="identity", high=5.0)


def slope(name: str, low: float = -5.0) -> Parameter:
    """An exponent of either sign that the log prediction is linear in."""
    return Parameter(name, link="identity", low=low, high=5.0, linear=True)


# ---- one column


def _power(p: Values, c: Values) -> Any:
    return p["A"] * power(c["x"], -p["alpha"])


POWER = Law(
    "power", "A / x^alpha", ("x",), (scale("A"), slope("alpha")), _power,
    "Hestness et al. 2017 (arXiv 1712.00409)", exponents=("alpha",), linear_in="log",
)  # fmt: skip


def _power_floor(p: Values, c: Values) -> Any:
    return p["E"] + p["A"] * power(c["x"], -p["alpha"])


POWER_FLOOR = Law(
    "power_floor", "E + A / x^alpha", ("x",), (FLOOR, scale("A"), exponent("alpha")),
    _power_floor, "Henighan et al. 2020 (arXiv 2010.14701), eq. 1.1",
    exponents=("alpha",), floor="E",
)  # fmt: skip


def _compute(p: Values, c: Values) -> Any:
    return p["E"] + p["A"] * power(c["flops"], -p["gamma"])


COMPUTE = Law(
    "compute", "E + A / flops^gamma", ("flops",), (FLOOR, scale("A"), exponent("gamma")),
    _compute, "Henighan et al. 2020 (arXiv 2010.14701), table 1", exponents=("gamma",), floor="E",
)  # fmt: skip


def _broken(breaks: int) -> Law:
    def predict(p: Values, c: Values) -> Any:
        out = p["b"] * power(c["x"], -p["c0"])
        for i in range(1, breaks + 1):
            # log(1 + (x/d)^(1/f)) as a softplus, which does not overflow
            bend = jax.nn.softplus((jnp.log(c["x"]) - jnp.log(p[f"d{i}"])) / p[f"f{i}"])
            out = out * jnp.exp(-p[f"c{i}"] * p[f"f{i}"] * bend)
        return p["E"] + out

    bent: list[Parameter] = []
    places = (0.03, 0.3, 3.0, 30.0) if breaks == 1 else (0.03, 1.0, 30.0)
    for i in range(1, breaks + 1):
        changes = (-0.2, 0.2, 0.6) if breaks == 1 else (-0.2, 0.4)
        bent += [
            Parameter(f"c{i}", grid=changes, link="identity", low=-5, high=5),
            Parameter(f"d{i}", grid=places, unit="x"),
            Parameter(f"f{i}", grid=(0.3,), low=0.02, high=5),
        ]
    first = Parameter("c0", grid=(0.02, 0.2, 0.5), link="identity", low=-5, high=5)
    return Law(
        "broken_power" if breaks == 1 else f"broken_power_{breaks}",
        "E + b x^-c0 prod_i (1 + (x/d_i)^(1/f_i))^(-c_i f_i)", ("x",),
        (FLOOR, scale("b"), first, *bent), predict,
        "Caballero et al. 2023 (arXiv 2210.14891), eq. 1", exponents=("c0",), floor="E",
    )  # fmt: skip


BROKEN_POWER = _broken(1)
BROKEN_POWER_2 = _broken(2)

_ALABDULMOHSIN = "Alabdulmohsin et al. 2022 (arXiv 2209.06640), section 3"


def _m1(p: Values, c: Values) -> Any:
    return p["beta"] * power(c["x"], -p["c"])


M1 = Law(
    "m1", "beta x^-c", ("x",), (scale("beta"), slope("c")), _m1, _ALABDULMOHSIN,
    exponents=("c",), linear_in="log",
)  # fmt: skip


def _m2(p: Values, c: Values) -> Any:
    return p["E"] + p["beta"] * power(c["x"], -p["c"])


M2 = Law(
    "m2", "E + beta x^-c", ("x",), (FLOOR, scale("beta"), exponent("c")), _m2, _ALABDULMOHSIN,
    exponents=("c",), floor="E",
)  # fmt: skip


def _m3(p: Values, c: Values) -> Any:
    return p["beta"] * power(1 / c["x"] + p["gamma"], p["c"])


M3 = Law(
    "m3", "beta (1/x + gamma)^c", ("x",),
    (scale("beta"), Parameter("gamma", grid=(1e-3, 0.03, 0.3, 3.0), unit="x", unit_power=-1),
     exponent("c")),
    _m3, _ALABDULMOHSIN, exponents=("c",),
)  # fmt: skip


def _m4(p: Values, c: Values) -> Any:
    """y with (y - E) / (top - y)^a = (x/s)^-c, by Newton's method in z = logit((y - E)/(top - E)).

    There the equation is log sigmoid(z) - a log sigmoid(-z) = level, increasing in z with slopes
    between 1 and a. The last two steps are differentiated: exact first and second derivatives.
    """
    span = p["top"] - p["E"]
    level = -p["c"] * (jnp.log(c["x"]) - jnp.log(p["s"])) + (p["a"] - 1) * jnp.log(span)

    def newton(z: Any, a: Any, level: Any) -> Any:
        gap = jax.nn.log_sigmoid(z) - a * jax.nn.log_sigmoid(-z) - level
        return z - gap / (jax.nn.sigmoid(-z) + a * jax.nn.sigmoid(z))

    a, fixed_level = jax.lax.stop_gradient((p["a"], level))
    z = jnp.where(fixed_level < 0, fixed_level, fixed_level / a)
    for _ in range(12):
        z = newton(z, a, fixed_level)
    z = newton(newton(jax.lax.stop_gradient(z), p["a"], level), p["a"], level)
    return p["E"] + span * jax.nn.sigmoid(z)


M4 = Law(
    "m4", "y with (y - E) / (top - y)^a = (x/s)^-c", ("x",),
    (Parameter("E", grid=(0.2, 0.7, 0.95), link="identity", unit="least"),
     Parameter("top", grid=(1.02, 1.3, 3.0), unit="largest"),
     Parameter("a", grid=(0.3, 1.0), low=0.02, high=10.0),
     Parameter("s", grid=(0.01, 0.3, 10.0), unit="x"), exponent("c", FEW)),
    _m4, _ALABDULMOHSIN, exponents=("c",), floor="E",
)  # fmt: skip

# ---- size and data


def _kaplan(p: Values, c: Values) -> Any:
    size = power(p["Nc"] / c["params"], p["alpha_N"] / p["alpha_D"])
    return power(size + p["Dc"] / c["tokens"], p["alpha_D"])


KAPLAN = Law(
    "kaplan", "((Nc/params)^(alpha_N/alpha_D) + Dc/tokens)^alpha_D", ("params", "tokens"),
    (Parameter("Nc", grid=(1.0, 1e2, 1e4, 1e6, 1e9), unit="params"),
     Parameter("Dc", grid=(1.0, 1e2, 1e4, 1e6), unit="tokens"),
     Parameter("alpha_N", grid=FEW, low=1e-3, high=5), Parameter("alpha_D", grid=FEW, low=1e-3,
     high=5)),
    _kaplan, "Kaplan et al. 2020 (arXiv 2001.08361), eq. 1.5", exponents=("alpha_N", "alpha_D"),
)  # fmt: skip


def _chinchilla(p: Values, c: Values) -> Any:
    size = p["A"] * power(c["params"], -p["alpha"])
    return p["E"] + size + p["B"] * power(c["tokens"], -p["beta"])


CHINCHILLA = Law(
    "chinchilla", "E + A / params^alpha + B / tokens^beta", ("params", "tokens"),
    (FLOOR, scale("A"), scale("B"), exponent("alpha"), exponent("beta")), _chinchilla,
    "Hoffmann et al. 2022 (arXiv 2203.15556), eq. 10", exponents=("alpha", "beta"), floor="E",
)  # fmt: skip


def _chinchilla_tied(p: Values, c: Values) -> Any:
    return _chinchilla({**p, "beta": p["alpha"]}, c)


CHINCHILLA_TIED = Law(
    "chinchilla_tied", "E + A / params^alpha + B / tokens^alpha", ("params", "tokens"),
    (FLOOR, scale("A"), scale("B"), exponent("alpha")), _chinchilla_tied,
    "Muennighoff et al. 2023 (arXiv 2305.16264), appendix A", exponents=("alpha",), floor="E",
)  # fmt: skip


def _width_depth_tokens(p: Values, c: Values) -> Any:
    shape = p["A"] * power(c["width"], -p["alpha"]) + p["B"] * power(c["depth"], -p["beta"])
    return p["E"] + shape + p["C"] * power(c["tokens"], -p["gamma"])


WIDTH_DEPTH_TOKENS = Law(
    "width_depth_tokens", "E + A / width^alpha + B / depth^beta + C / tokens^gamma",
    ("width", "depth", "tokens"),
    (FLOOR, scale("A"), scale("B"), scale("C"), exponent("alpha", FEW),
     exponent("beta", FEW), exponent("gamma", FEW)),
    _width_depth_tokens, "after McLeish et al. 2025 (arXiv 2502.06857), section 4",
    exponents=("alpha", "beta", "gamma"), floor="E",
)  # fmt: skip


def _saturating(unique: Any, repeats: Any, decay: Any) -> Any:
    """What `repeats` more passes over `unique` are worth, as unique ones."""
    return unique + unique * decay * -jnp.expm1(-repeats / decay)


def optimal_params(p: Values, tokens: Any) -> Any:
    """Compute-optimal params for `tokens` under the single-epoch law at 6 FLOPs a param a token."""
    scale = p["alpha"] * p["A"] / (p["beta"] * p["B"])
    return power(scale * power(tokens, p["beta"]), 1 / p["alpha"])


def _data_constrained(p: Values, c: Values) -> Any:
    unique = jnp.minimum(c["unique_tokens"], c["tokens"])
    repeats = jnp.maximum(c["tokens"] / unique - 1, 0.0)
    base = jnp.minimum(c["params"], optimal_params(p, unique))
    excess = jnp.maximum(c["params"] / base - 1, 0.0)
    size, data = _saturating(base, excess, p["R_N"]), _saturating(unique, repeats, p["R_D"])
    return p["E"] + p["A"] * power(size, -p["alpha"]) + p["B"] * power(data, -p["beta"])


DATA_CONSTRAINED = Law(
    "data_constrained",
    "E + A / (U_N + U_N R_N (1 - exp(-r_N/R_N)))^alpha + B / (U_D + U_D R_D (1 - exp(-r_D/R_D)))^"
    "beta; U_D unique tokens, r_D = tokens/U_D - 1; U_N = min(params, optimal for U_D), "
    "r_N = params/U_N - 1",
    ("params", "tokens", "unique_tokens"),
    (Parameter("E", grid=(0.5, 0.8), link="identity", unit="least"),
     Parameter("A", grid=(1e2, 1e3)), Parameter("B", grid=(3e2, 3e3)),
     exponent("alpha", (0.25, 0.4)), exponent("beta", (0.25, 0.4)),
     Parameter("R_D", grid=(1.0, 4.0, 16.0, 64.0), low=1e-2, high=1e9),
     Parameter("R_N", grid=(0.5, 2.0, 8.0, 32.0), low=1e-2, high=1e9)),
    _data_constrained, "Muennighoff et al. 2023 (arXiv 2305.16264), eq. 5 and 6",
    exponents=("alpha", "beta"), floor="E", optional=("unique_tokens",),
)  # fmt: skip


def _routed(p: Values, c: Values) -> Any:
    headroom = 1 / (1 / p["E_start"] - 1 / (p["E_start"] + p["E_more"]))
    effective = 1 / (1 / (c["experts"] - 1 + headroom) + 1 / (p["E_start"] + p["E_more"]))
    n, e = jnp.log(c["params"]), jnp.log(effective)
    return jnp.exp(p["a"] * n + p["b"] * e + p["c"] * n * e + p["d"])


ROUTED = Law(
    "routed",
    "exp(a log params + b log e + c log params log e + d), 1/e = 1/(experts - 1 + 1/(1/E_start - "
    "1/E_max)) + 1/E_max, E_max = E_start + E_more", ("params", "experts"),
    (slope("a"), slope("b"), slope("c"), Parameter("d", link="identity", low=-50, high=50,
     linear=True), Parameter("E_start", grid=(1.0, 2.0, 4.0), low=0.5, high=1e3),
     Parameter("E_more", grid=(30.0, 300.0, 3000.0), low=1e-2, high=1e7)),
    _routed, "Clark et al. 2022 (arXiv 2202.01169), eq. 6 and 7", exponents=("a", "b", "c"),
    linear_in="log",
)  # fmt: skip
