"""The step without jit, so that `breakpoint()`, `print` and pdb work inside any module.

In the forward pass every array is a plain one, with its numbers. In the pass for the gradient jax
traces the forward part again, and the backward passes of `jax.custom_vjp` get plain arrays. Called
by `launch.py debug --eager`.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from scaling.debug.instant import Instant
from scaling.debug.step import loss_of


@contextmanager
def without_breakpoints() -> Iterator[None]:
    """`breakpoint()` does nothing: where a model is built or compiled there are no numbers yet."""
    usual = sys.breakpointhook
    sys.breakpointhook = lambda *args, **kwargs: None
    try:
        yield
    finally:
        sys.breakpointhook = usual


def run(instant: Instant) -> tuple[float, float]:
    """The loss of the forward pass, and of the one that the gradient is taken of, both eager."""
    loss = loss_of(instant)
    with jax.disable_jit():
        print("forward pass, eagerly ...", flush=True)
        alone, _ = instant.here(loss)(instant.state.params, instant.batch)
        print(f"loss {float(alone):.6g}\nforward and backward pass, eagerly ...", flush=True)
        differentiated = instant.here(jax.value_and_grad(loss, has_aux=True))
        (value, _), _ = differentiated(instant.state.params, instant.batch)
        print(f"loss {float(value):.6g}")
    return float(alone), float(value)
