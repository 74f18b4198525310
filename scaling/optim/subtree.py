"""A part of a tree of parameters: nested dicts that have some of its leaves, at their places.

What is trained of a model is such a part. The optimizer has moments for it alone, and an update
puts it back into the whole. Plain functions of nested dicts with string keys; a leaf is whatever is
no dict, flax's boxes among them.
"""

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from typing import Any


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """("blocks/norm/scale", leaf) of every leaf, by name."""
    if not isinstance(tree, dict):
        yield path, tree
        return
    for name in sorted(tree):
        yield from leaves(tree[name], f"{path}/{name}" if path else name)


def matches(path: str, wanted: Sequence[str]) -> bool:
    """Whether a path is meant by one of the patterns: each is a name in it, or several in a row,
    with * for any characters: "query" and "attention/q*" both mean "blocks/attention/query/w".
    """
    return any(fnmatch.fnmatchcase(f"/{path}/", f"*/{one}/*") for one in wanted)


def nested(found: dict[str, Any]) -> Any:
    """The tree of these leaves, by path."""
    tree: dict[str, Any] = {}
    for path, leaf in found.items():
        *groups, name = path.split("/")
        at = tree
        for group in groups:
            at = at.setdefault(group, {})
        at[name] = leaf
    return tree


def name(path: tuple[Any, ...]) -> str:
    """ "blocks/norm/scale" of a leaf's path in `jax.tree_util`, without the fields of boxes."""
    return "/".join(str(entry.key) for entry in path if hasattr(entry, "key"))


def where(tree: Any, keep: Callable[[str], bool]) -> Any:
    """The part of the leaves whose path is kept."""
    return nested({path: leaf for path, leaf in leaves(tree) if keep(path)})


def like(tree: Any, part: Any) -> Any:
    """The leaves of `tree` at the places that `part` has."""
    if not isinstance(part, dict):
        return tree
    return {name: like(tree[name], inner) for name, inner in part.items()}


def put(tree: Any, part: Any) -> Any:
    """`tree` with the leaves of `part` at their places, which may be new."""
    if not isinstance(tree, dict) or not isinstance(part, dict):
        return part
    both = {name: put(tree[name], inner) for name, inner in part.items() if name in tree}
    return tree | part | both
