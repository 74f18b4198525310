"""Laws of what is learned from: mixtures of domains, new data after old, vocabularies, context,
other data sets.

Each is one pure function and one `Law` entry, as in `forms.py`; `LAWS` in the package's `__init__`
lists them.
"""

import math
from typing import Any

from scaling.laws.forms import FEW, FLOOR, exponent, scale
from scaling.laws.later import jnp
from scaling.laws.law import Law, Parameter, Values, power


def _mixture(domains: int) -> Law:
    """The share of the last domain is what the others leave; its t is in k and theirs."""
    places = range(1, domains)

    def predict(p: Values, c: Values) -> Any:
        told = sum(p[f"t{i}"] * c[f"share_{i}"] for i in places)
        return p["E"] + p["k"] * jnp.exp(told)

    grid = (-3.0, -0.5, 0.5) if domains < 4 else (-2.0, 0.5)
    shares = tuple(f"share_{i}" for i in places)
    return Law(
        f"mixture_{domains}", f"E + k exp(sum_i t_i share_i), of {domains} domains", shares,
        (FLOOR, scale("k"), *(Parameter(f"t{i}", grid=grid, link="identity", low=-50.0, high=50.0)
                              for i in places)),
        predict, "Ye et al. 2024 (arXiv 2403.16952), eq. 1", floor="E", zeros=shares,
    )  # fmt: skip


MIXTURE_2, MIXTURE_3, MIXTURE_4 = (_mixture(domains) for domains in (2, 3, 4))


def _continued(p: Values, c: Values) -> Any:
    inside = power(jnp.maximum(c["share"], 1e-12), p["eta"])  # none of the domain is none of this
    return (
        p["E"] + p["A"] * power(c["params"], -p["alpha"])
        + p["B"] * inside * power(c["tokens"], -p["beta"])
        + p["C"] * power(c["share"] + p["epsilon"], -p["gamma"])
    )  # fmt: skip


CONTINUED = Law(
    "continued",
    "E + A / params^alpha + B share^eta / tokens^beta + C / (share + epsilon)^gamma; share that of "
    "the domain whose loss it is",
    ("params", "tokens", "share"),
    (FLOOR, scale("A"), scale("B"), scale("C"), exponent("alpha", (0.2, 0.5)),
     exponent("beta", (0.2, 0.5)), exponent("eta", (0.3, 1.0)), exponent("gamma", (0.3, 1.0)),
     Parameter("epsilon", grid=(0.03, 0.3), low=1e-6, high=10.0)),
    _continued, "Que et al. 2024 (arXiv 2406.01375), the law of continued pretraining",
    exponents=("alpha", "beta"), floor="E", zeros=("share",), optional=("params",),
)  # fmt: skip


def _forgetting(p: Values, c: Values) -> Any:
    holding = (1 + p["B"] * c["share"]) * c["params"]
    return p["E"] + p["A"] * power(c["tokens"], p["beta"]) * power(holding, -p["alpha"])


FORGETTING = Law(
    "forgetting",
    "E + A tokens^beta / ((1 + B share) params)^alpha; share that of the old data among the new, E "
    "may be negative (--space=linear)",
    ("params", "tokens", "share"),
    (Parameter("E", link="identity", linear=True, low=-math.inf), scale("A"),
     exponent("alpha", FEW), exponent("beta", FEW),
     Parameter("B", grid=(3.0, 30.0, 300.0), low=1e-3, high=1e6)),
    _forgetting, "Bethune et al. 2025 (arXiv 2502.06042), without the loss before",
    exponents=("alpha", "beta"), target="loss_rise", zeros=("share",), optional=("params",),
)  # fmt: skip


def _vocabulary(p: Values, c: Values) -> Any:
    inner = p["A"] * power(c["inner_params"], -p["alpha"])
    words = p["W"] * power(c["embedding_params"], -p["omega"])
    return p["E"] + inner + words + p["B"] * power(c["tokens"], -p["beta"])


VOCABULARY = Law(
    "vocabulary",
    "E + A / inner_params^alpha + W / embedding_params^omega + B / tokens^beta; of a loss relative "
    "to the unigrams' E is negative (--space=linear)",
    ("inner_params", "embedding_params", "tokens"),
    (Parameter("E", link="identity", linear=True, low=-math.inf), scale("A"), scale("W"),
     scale("B"), exponent("alpha", FEW), exponent("omega", FEW), exponent("beta", FEW)),
    _vocabulary, "Tao et al. 2024 (arXiv 2407.13623), section 3.3",
    exponents=("alpha", "omega", "beta"),
)  # fmt: skip


def _context(p: Values, c: Values) -> Any:
    return p["E"] + p["A"] * power(c["context"], -p["alpha"])


CONTEXT = Law(
    "context", "E + A / context^alpha", ("context",), (FLOOR, scale("A"), exponent("alpha")),
    _context, "Xiong et al. 2023 (arXiv 2309.16039), section 2",
    exponents=("alpha",), floor="E",
)  # fmt: skip


def _loss_to_loss(p: Values, c: Values) -> Any:
    above = jnp.maximum(c["other_loss"] - p["E_0"], 1e-9 * c["other_loss"])
    return p["E"] + p["K"] * power(above, p["kappa"])


LOSS_TO_LOSS = Law(
    "loss_to_loss", "E + K (other_loss - E_0)^kappa", ("other_loss",),
    (FLOOR, scale("K"), Parameter("E_0", grid=(0.2, 0.5, 0.8), link="identity", unit="other_loss"),
     exponent("kappa", (0.6, 0.9, 1.2))),
    _loss_to_loss, "Brandfonbrener et al. 2024 (arXiv 2411.12925), section 3",
    exponents=("kappa",), floor="E",
)  # fmt: skip
