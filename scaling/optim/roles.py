"""What each parameter is in its model: read from the logical axes that every leaf carries, and from
what its family says beyond them (`config.contracts.Roles`).

Takes a boxed tree of parameters or their shapes; gives a `Leaf` for each path. Called by
`parametrization.py` and `muon.py`, and by transforms that cut matrices.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from scaling.config.contracts import Roles
from scaling.devices.sharding import ALONE, FINITE, LOOKED_UP
from scaling.optim import subtree
from scaling.optim.subtree import matches

# Leaves that are never decayed. The rule goes by name, not by rank: under scanned layers a norm
# scale has the shape [layers, embed], and must be treated as its unrolled twin [embed] is.
NOT_DECAYED = ("scale", "bias", "token_bias", "mean", "variance")
# Leaves that no update moves: statistics of data, by name too.
STATISTICS = ("mean", "variance")
_STACKED = ("layers", "expert")  # axes along which there is a matrix at each place
_GATES = "gates"  # matrices side by side, of one input

# input: from the data to channels. hidden: from channels to channels. output: from channels to what
# the data decide. vector: gains and biases.
Role = Literal["input", "hidden", "output", "vector"]


def decays(path: tuple[Any, ...]) -> bool:
    """Whether weight decay applies to the leaf at a tree path: matrices and embeddings, by name."""
    return decayed(subtree.name(path))


def moves(path: tuple[Any, ...]) -> bool:
    """Whether updates move the leaf at a tree path."""
    return subtree.name(path).rpartition("/")[2] not in STATISTICS


def decayed(path: str) -> bool:
    """`decays` of a leaf by its path, "blocks/norm/scale"."""
    return path.rpartition("/")[2] not in NOT_DECAYED


def cut(path: str, names: tuple[str, ...]) -> tuple[int, int] | None:
    """How many of a leaf's axes, by their logical names, are stacks of matrices, and how many of
    those after them are inputs; None where it is no matrix, as a bias of several axes.

    The stream's channels ("embed"), and the rank of a matrix in two factors, stand alone on their
    side; of other matrices the last axis is the output, as a convolution's.
    """
    stacked = 0
    while stacked < len(names) and names[stacked] in _STACKED:
        stacked += 1
    rest = names[stacked:]
    if len(rest) < 2 or not decayed(path):
        return None
    return stacked, 1 if rest[0] in ALONE else len(rest) - 1


@dataclass(frozen=True)
class Leaf:
    """One parameter of a model."""

    path: str  # "blocks/attention/query/w"
    shape: tuple[int, ...]
    axes: tuple[str, ...]  # logical, of `shape`
    role: Role
    ins: tuple[int, ...]  # axes that the product with the input sums over; of a vector none
    outs: tuple[int, ...]  # axes of what it makes; of a vector its own, without stacks
    place: frozenset[str]  # of the patterns in `Roles`, those that mean it: "blocks", "branches"

    @property
    def fan_in(self) -> int:
        """Numbers that one output reads."""
        return math.prod(self.shape[axis] for axis in self.ins)

    @property
    def fan_out(self) -> int:
        """Numbers that one input goes to; of a vector its length."""
        return math.prod(self.shape[axis] for axis in self.outs)

    @property
    def looked_up(self) -> bool:
        """Whether it is a table of the data's symbols, whose initial std goes by its width."""
        return any(axis in LOOKED_UP for axis in self.axes)


def leaves(boxed: Any, roles: Roles) -> dict[str, Leaf]:
    """Path -> leaf, of nested dicts of linen's boxes around arrays or their shapes."""
    return {path: _leaf(path, box, roles) for path, box in subtree.leaves(boxed)}


def _leaf(path: str, box: Any, roles: Roles) -> Leaf:
    names, shape = tuple(box.names), tuple(box.value.shape)
    patterns = {name: getattr(roles, name) for name in _PLACES}
    place = frozenset(name for name, wanted in patterns.items() if matches(path, wanted))
    found = cut(path, names)
    if found is None:
        own = tuple(i for i, name in enumerate(names) if name not in (*_STACKED, _GATES))
        return Leaf(path, shape, names, "vector", (), own, place)
    stacked, inputs = found
    ins = tuple(range(stacked, stacked + inputs))
    outs = tuple(i for i in range(stacked + inputs, len(names)) if names[i] != _GATES)
    if "outputs" in place:
        ins, outs = outs, ins
    role: Role = "hidden"
    if _finite(names[axis] for axis in ins):
        role = "input"
    elif _finite(names[axis] for axis in outs):
        role = "output"
    return Leaf(path, shape, names, role, ins, outs, place)


_PLACES = ("outputs", "tied", "attention", "blocks", "branches")


def _finite(axes: Iterable[str]) -> bool:
    return all(axis in FINITE for axis in axes)
