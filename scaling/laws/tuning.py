"""Laws of the best learning rate and batch size: power laws, straight lines in logarithms.

Each is one pure function and one `Law` entry, as in `forms.py`; `LAWS` in the package's `__init__`
lists them.
"""

from typing import Any

from scaling.laws.forms import scale, slope
from scaling.laws.law import Law, Values, power

_LI = "Li et al. 2025 (arXiv 2503.04715), eq. 1"
_DEEPSEEK = "Bi et al. 2024 (arXiv 2401.02954), eq. 1"
_PORIAN = "Porian et al. 2024 (arXiv 2406.19146), section 3.5"


def _law(name: str, target: str, columns: tuple[str, ...], source: str) -> Law:
    """k times a power of each column."""
    names = ("a", "b")[: len(columns)] if columns != ("tokens",) else ("b",)

    def predict(p: Values, c: Values) -> Any:
        out = p["k"]
        for exponent, column in zip(names, columns, strict=True):
            out = out * power(c[column], p[exponent])
        return out

    product = " ".join(f"{c}^{n}" for n, c in zip(names, columns, strict=True))
    return Law(
        name, f"k {product}", columns, (scale("k"), *(slope(n) for n in names)), predict, source,
        exponents=names, linear_in="log", target=target,
    )  # fmt: skip


BEST_LR = _law("best_lr", "lr", ("params", "tokens"), _LI)
BEST_LR_COMPUTE = _law("best_lr_compute", "lr", ("flops",), _DEEPSEEK)
BEST_LR_SIZE = _law("best_lr_size", "lr", ("params",), _PORIAN)
BEST_LR_TOKENS = _law(
    "best_lr_tokens", "lr", ("tokens",), "Bjorck et al. 2024 (arXiv 2409.19913), section 3"
)
BEST_BATCH = _law("best_batch", "batch", ("tokens",), _LI)
BEST_BATCH_COMPUTE = _law("best_batch_compute", "batch", ("flops",), _DEEPSEEK)
BEST_BATCH_SIZE = _law("best_batch_size", "batch", ("params",), _PORIAN)
CRITICAL_BATCH = _law(
    "critical_batch", "batch", ("loss",), "Kaplan et al. 2020 (arXiv 2001.08361), eq. 1.4"
)
