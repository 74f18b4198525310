"""The calls of a model's modules: their names, their outputs, the gradient at each of them.

`named` wraps every call of a flax module while a function is traced or run: the call gets the name
of its parameters ("blocks.0.attention.query"), which also stands in jax's name stack, where
the hunt finds it again. `outputs` gives what every call returned. A module that is applied
inside another by `module.apply` (the blocks are) is named by the parameters it is given.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

Array = jax.Array
ROOT = "model"
_MARK = re.compile(r"\[([^\[\]]*)\]")


@dataclass
class Call:
    """One call of a module."""

    name: str  # "blocks.0.norm"; `ROOT` for the whole model
    module: nn.Module
    inputs: Any  # positional and keyword arguments


@dataclass
class _Frame:
    """An application of a root module, and how many others were applied within it."""

    name: str
    params: Any
    counts: dict[str, int] = field(default_factory=dict)


Around = Callable[[Call, Callable[[], Any]], Any]


@contextmanager
def named(around: Around = lambda call, run: run()) -> Iterator[None]:
    """Inside it every module call has a name, and `around(call, run)` gives its result.

    `around` is called for the inner modules before the outer ones have returned; it must call
    `run()`, which gives what the module gives.
    """
    frames: list[_Frame] = []
    inside: list[nn.Module] = []

    def intercept(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        again = bool(inside) and inside[-1] is module  # `super().__call__`
        if context.method_name != "__call__" or again:
            return next_fun(*args, **kwargs)
        root = not module.path
        if root:
            params = module.variables.get("params", {})
            frames.append(_Frame(_root_name(module, params, frames), params))
        inside.append(module)
        try:
            name = ".".join((*filter(None, (frames[-1].name,)), *module.path)) or ROOT
            call = Call(name, module, (args, kwargs))

            def run() -> Any:
                return next_fun(*args, **kwargs)

            with jax.named_scope(f"[{name}]"):
                return around(call, run)
        finally:
            inside.pop()
            if root:
                frames.pop()

    with nn.intercept_methods(intercept):
        yield


def _root_name(module: nn.Module, params: Any, frames: list[_Frame]) -> str:
    """ "" for the outermost; else the name of its parameters and the number of the call."""
    if not frames:
        return ""
    name = _stacked_as(params, frames[0].params) or type(module).__name__
    number = frames[-1].counts.get(name, 0)
    frames[-1].counts[name] = number + 1
    return ".".join((*filter(None, (frames[-1].name,)), name, str(number)))


def _stacked_as(params: Any, outer: Any, path: tuple[str, ...] = ()) -> str | None:
    """Where `outer` has parameters of the same names and shapes, stacked on a leading axis."""
    if not isinstance(outer, Mapping) or not params:
        return None
    leaves, structure = jax.tree.flatten(params)
    theirs, other = jax.tree.flatten(outer)
    if path and str(structure) == str(other):
        same = [x.shape[1:] == y.shape for x, y in zip(theirs, leaves, strict=True)]
        return ".".join(path) if all(same) else None
    found = (_stacked_as(params, inner, (*path, name)) for name, inner in outer.items())
    return next(filter(None, found), None)


@flax.struct.dataclass
class Seen:
    """Arrays of floats by the names of the modules that gave them, in the order in which the calls
    ended: inner modules before outer ones. (A dict would lose the order in a tree of jax.)
    """

    names: tuple[str, ...] = flax.struct.field(pytree_node=False)
    arrays: tuple[Any, ...]

    def items(self) -> Iterator[tuple[str, Any]]:
        """Names with their arrays."""
        return zip(self.names, self.arrays, strict=True)


def outputs(
    function: Callable[..., Any], probes: Seen | None = None
) -> Callable[..., tuple[Any, Seen]]:
    """`function`, which also gives what its modules returned.

    Probes are added to the outputs of the same names: the gradient with respect to a probe of
    zeros is the gradient at that output.
    """
    added = {} if probes is None else dict(probes.items())

    def traced(*args: Any) -> tuple[Any, Seen]:
        seen: dict[str, Array] = {}

        def around(call: Call, run: Callable[[], Any]) -> Any:
            leaves, structure = jax.tree_util.tree_flatten_with_path(run())
            kept = []
            for path, leaf in leaves:
                if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating):
                    name = _output_name(call.name, path if len(leaves) > 1 else (), seen)
                    if name in added:
                        leaf = leaf + added[name].astype(leaf.dtype)
                    seen[name] = leaf
                kept.append(leaf)
            return jax.tree.unflatten(structure, kept)

        with named(around):
            return function(*args), Seen(tuple(seen), tuple(seen.values()))

    return traced


def _output_name(call: str, path: Any, seen: Mapping[str, Array]) -> str:
    keys = [str(entry.key) for entry in path if isinstance(entry, jax.tree_util.DictKey)]
    name = ".".join((call, *keys))
    again = sum(other.partition("#")[0] == name for other in seen)
    return f"{name}#{again + 1}" if again else name  # a module that is called twice


def place(scope: str) -> tuple[str, bool]:
    """(module, whether it is the backward pass) of a name stack.

    The module is the innermost call that `named` has marked, followed by the `jax.named_scope`s
    within it: "model/embedding". Outside every module it is the scopes alone.
    """
    marks = list(_MARK.finditer(scope))
    backward = "transpose(" in scope
    rest = scope[marks[-1].end() :] if marks else scope
    scopes = [part for part in re.sub(r"\w+\(|\)", "", rest).split("/") if part]
    return "/".join([*([marks[-1][1]] if marks else []), *scopes]), backward
