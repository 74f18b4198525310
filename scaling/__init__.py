"""Scaling experiments in JAX, for a notebook: `import scaling`, then

    runs(workdir)            the runs of a workdir, or any table of runs, as a pandas frame
    curves(workdir)          every line of their metrics
    fit(frame, law)          a law, with intervals
    predict(fit, params=...) what it says of runs that are not there
    plan(fit, flops)         the compute-optimal run of a budget
    draw(frame, fit)         a figure

docs/library.md has examples. Importing this imports nothing else: what a function needs (jax, say)
comes with its first call.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaling.library import curves, draw, fit, plan, predict, runs

__all__ = ["curves", "draw", "fit", "plan", "predict", "runs"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from scaling import library

    return getattr(library, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
