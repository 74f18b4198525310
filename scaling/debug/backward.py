"""Source lines of backward passes that are written by hand.

jax gives every operation of a backward pass the source line of its forward one. For what
`jax.custom_vjp` was given that is the line of the call, not the one in the function that computes
the gradient. Inside `own_lines` those functions are traced with lines of their own. Called by
`hunt.py`.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.extend import source_info_util


@contextmanager
def own_lines() -> Iterator[None]:
    """While it is open, calls of custom_vjp functions take their backward pass with its lines."""
    usual = jax.custom_vjp.__call__

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        backward = self.bwd
        if backward is not None:
            self.bwd = _with_lines(backward)
        try:
            return usual(self, *args, **kwargs)
        finally:
            self.bwd = backward

    jax.custom_vjp.__call__ = call  # type: ignore[method-assign]
    try:
        yield
    finally:
        jax.custom_vjp.__call__ = usual  # type: ignore[method-assign]


class _Here:
    """In the place of a traceback that jax hands on: false, so that jax takes that of the moment.
    (None would leave the one that is there.)
    """

    def __bool__(self) -> bool:
        return False

    def as_python_traceback(self) -> None:
        """Asked for where something is raised: nothing to add."""


def _with_lines(backward: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(backward)
    def traced(*args: Any) -> Any:
        here: Any = _Here()
        stack = source_info_util.current_name_stack()
        with source_info_util.user_context(here, name_stack=stack):
            return backward(*args)

    return traced
