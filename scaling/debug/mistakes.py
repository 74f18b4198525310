"""What a model's own code raised, with the module it was in.

A shape that does not fit is raised deep inside jax, under forty frames of libraries. `reported`
wraps whatever builds or runs a model, and turns such an error into a `ModelError`: the module, what
it was given, its parameters, the source lines on the way. Called by `launch.py debug`.
"""

import bdb
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import flax.linen as nn
import jax

from scaling.debug.interpreter import libraries, shown
from scaling.debug.modules import Call, named
from scaling.errors import UserError

_MOST = 6  # source lines that are shown, the innermost


class ModelError(UserError):
    """What a model raised; the message says where."""


@contextmanager
def reported() -> Iterator[None]:
    """Raises ModelError for what is raised in a module within it; other errors pass through."""
    met: list[tuple[Call, BaseException]] = []

    def around(call: Call, run: Callable[[], Any]) -> Any:
        try:
            return run()
        except Exception as error:
            if not met or met[-1][1] is not error:  # the innermost alone
                met.append((call, error))
            raise

    with named(around):
        try:
            yield
        except (UserError, bdb.BdbQuit):
            raise
        except Exception as error:
            call = next((call for call, other in met if other is error), None)
            if call is None:
                raise
            raise ModelError(_message(call, error)) from error


def _message(call: Call, error: Exception) -> str:
    first, *_ = [*str(error).strip().splitlines(), ""]
    args, kwargs = call.inputs
    lines = [
        f"{type(error).__name__} in {call.name} ({type(call.module).__name__}): {first}",
        *(f"  input {i}: {_shapes(x)}" for i, x in enumerate((*args, *kwargs.values()))),
    ]
    params = nn.unbox(call.module.variables.get("params", {}))
    lines += [
        f"  parameter {jax.tree_util.keystr(path, simple=True, separator='.')}: {_shape(leaf)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(libraries())
    ]
    for frame in frames[-_MOST:]:
        lines += [f"  {shown(frame.filename)}:{frame.lineno}, in {frame.name}", f"    {frame.line}"]
    return "\n".join(lines)


def _shapes(tree: Any) -> str:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    if len(leaves) == 1 and not leaves[0][0]:
        return _shape(leaves[0][1])
    names = [
        f"{jax.tree_util.keystr(path, simple=True, separator='.')} {_shape(leaf)}"
        for path, leaf in leaves
    ]
    return ", ".join(names) or "nothing"


def _shape(x: Any) -> str:
    if not hasattr(x, "shape"):
        return type(x).__name__
    return f"{'x'.join(map(str, x.shape)) or 'scalar'} {x.dtype}"
