"""Laws of what a loss is good for, and of training beyond what is compute-optimal.

Each is one pure function and one `Law` entry, as in `forms.py`; `LAWS` in the package's `__init__`
lists them.
"""

from typing import Any

from scaling.laws.forms import FLOOR, exponent, scale, slope
from scaling.laws.later import jax, jnp
from scaling.laws.law import Law, Parameter, Values, power

_GADRE = "Gadre et al. 2024 (arXiv 2403.08540)"


def _overtraining(p: Values, c: Values) -> Any:
    long, eta = c["tokens_per_param"], p["eta"]
    both = p["A"] * power(long, eta) + p["B"] * power(long, -eta)
    return p["E"] + both * power(c["flops"], -eta)


OVERTRAINING = Law(
    "overtraining",
    "E + (A tokens_per_param^eta + B tokens_per_param^-eta) / flops^eta",
    ("flops", "tokens_per_param"), (FLOOR, scale("A"), scale("B"), exponent("eta")),
    _overtraining, f"{_GADRE}, eq. 4", exponents=("eta",), floor="E",
)  # fmt: skip


def _error(p: Values, c: Values) -> Any:
    return p["worst"] - p["k"] * jnp.exp(-p["gamma"] * c["loss"])


ERROR = Law(
    "error", "worst - k exp(-gamma loss)", ("loss",),
    (Parameter("worst", grid=(1.02, 1.2), link="identity", unit="largest"),
     Parameter("k", grid=(0.3, 1.0, 3.0, 10.0), high=1e6),
     Parameter("gamma", grid=(0.3, 0.8, 2.0), high=1e2)),
    _error, f"{_GADRE}, eq. 5", target="error",
)  # fmt: skip


def _accuracy(p: Values, c: Values) -> Any:
    reached = jax.nn.sigmoid(p["k"] * (p["middle"] - c["loss"]))
    return p["chance"] + (p["best"] - p["chance"]) * reached


ACCURACY = Law(
    "accuracy", "chance + (best - chance) sigmoid(k (middle - loss))", ("loss",),
    (Parameter("chance", grid=(0.0, 0.25), link="identity", high=1.0),
     Parameter("best", grid=(0.6, 1.0), link="identity", high=1.0),
     Parameter("k", grid=(0.5, 2.0, 8.0), high=1e3),
     Parameter("middle", grid=(0.7, 0.9, 1.0, 1.2), unit="loss")),
    _accuracy, "after Grattafiori et al. 2024 (arXiv 2407.21783), section 3.2.1",
    target="accuracy", most=1.0,
)  # fmt: skip


def _transfer(p: Values, c: Values) -> Any:
    return p["k"] * power(c["tuned_tokens"], p["a"]) * power(c["params"], p["b"])


TRANSFER = Law(
    "transfer", "k tuned_tokens^a params^b; the data that pretraining was worth",
    ("tuned_tokens", "params"), (scale("k"), slope("a"), slope("b")), _transfer,
    "Hernandez et al. 2021 (arXiv 2102.01293), section 1", exponents=("a", "b"),
    linear_in="log", target="transferred",
)  # fmt: skip
