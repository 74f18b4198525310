"""How a parameter's initial scale, learning rate, epsilon and factor follow width and depth.

Takes the parameters of a model and of its base model (`roles.py`); gives the multipliers of each
leaf, over what it is in "standard": there matrices begin with std 1 / sqrt(fan-in), tables of
symbols with 1 / sqrt(width), and all have one learning rate. At the base's shape all are 1. Called
by `transforms/transform.py`, which knows the shapes.

Width (Yang et al. 2022, arXiv 2203.03466, table 8), with r_in and r_out the growth of a leaf's
fan-in and fan-out over the base's:

                   input, vector   hidden             output
    initial std    1               1 / sqrt(fan-in)   1, and 1 / r_in where it is used
    signed steps   1               1 / r_in           1
    sgd            r_out           r_out / r_in       r_in
    muon           as signed       spectral norm sqrt(fan-out / fan-in)

"Signed steps" are those of adamw, lion and adafactor, whose size does not know the gradient's;
muon's condition is the spectral one (Yang, Simon and Bernstein 2023, arXiv 2310.17813, condition
1). Attention logits are over the channels of a head, not over their root (definition 4.1), and
epsilon falls as gradients do, with the width (appendix B.3).

Depth, with L its growth: each residual branch counts L^-alpha, and what lies in the blocks has
L^(alpha - 1) of the rate (sgd: L^(2 alpha - 1)) and L^-alpha of the epsilon (Dey et al. 2025,
arXiv 2505.01618, table 1). alpha is 1/2 in depth-muP (Yang et al. 2023, arXiv 2310.02244) and 1 in
CompleteP.

What a transform stores in the place of a matrix, or beside it, such as two factors, is
drawn at the size that the transform gives it and moves as a hidden matrix of its own shape: with
signed steps the factor that reads the channels at 1 / r_in, that which reads the rank at 1 (as the
two rates of Hayou, Ghosh and Yu 2024, arXiv 2402.12354, section 4). The matrix that it makes has
its factor.

Weight decay is no leaf's own: each shrinks by the *run's* rate times weight_decay, whatever
multiplies its own rate (`optimizer.py`), so that how long weights are remembered depends on no
shape. Where others multiply both by the leaf's rate, that is weight_decay / multiplier: the growth
of the width for hidden matrices in table 1 of 2505.01618.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax

from scaling.config import OptimConfig
from scaling.errors import ConfigError
from scaling.optim import subtree
from scaling.optim.roles import Leaf

ALPHA = {"standard": 0.0, "mup": 0.0, "depth_mup": 0.5, "completep": 1.0}  # key: the config's name
_WITH_EPSILON = ("adamw", "adafactor", "muon", "adagrad", "schedule_free")


@dataclass(frozen=True)
class Multipliers:
    """Of one leaf, over what it is in "standard"."""

    init: float = 1.0  # of its initial std
    forward: float = 1.0  # of its value where the model uses it
    rate: float = 1.0  # of its learning rate
    epsilon: float = 1.0  # of the epsilon beside the root of its second moment

    @property
    def decay(self) -> float:
        """Of weight_decay, as others write it: times the leaf's own learning rate."""
        return 1.0 / self.rate


@dataclass(frozen=True)
class Parametrization:
    """The leaves of a model as stored, with their multipliers; hashable."""

    leaves: tuple[Leaf, ...]
    multipliers: tuple[Multipliers, ...]
    # Of what is made of others, and not stored: path -> the factor where the model uses it
    made: tuple[tuple[str, float], ...] = ()

    @property
    def by_path(self) -> dict[str, Leaf]:
        """Path -> leaf."""
        return {leaf.path: leaf for leaf in self.leaves}

    def values(self, field: str) -> dict[str, float]:
        """Path -> the multiplier of this name."""
        pairs = zip(self.leaves, self.multipliers, strict=True)
        found = {leaf.path: getattr(found, field) for leaf, found in pairs}
        return found | dict(self.made) if field == "forward" else found

    def varies(self, field: str) -> bool:
        """Whether some leaf's multiplier of this name is not 1."""
        return any(value != 1.0 for value in self.values(field).values())

    def applied(self, field: str, tree: Any, power: int = 1) -> Any:
        """A tree of parameters, or of a part of them, boxed or not, each leaf times its multiplier
        to the `power`. Where that is 1 the leaf is what it was, not a product.
        """
        values = self.values(field)

        def times(path: tuple[Any, ...], leaf: Any) -> Any:
            value = values[subtree.name(path)] ** power
            return leaf if value == 1.0 else leaf * value

        return jax.tree_util.tree_map_with_path(times, tree)


def parametrize(
    optim: OptimConfig,
    target: Mapping[str, Leaf],
    base: Mapping[str, Leaf],
    width: float = 1.0,
    depth: float = 1.0,
    branch_init: float = 0.0,
    pieces: Mapping[str, tuple[Leaf, Leaf] | None] | None = None,
) -> Parametrization:
    """The parametrization that the config names.

    Args:
      optim: `name`, `parametrization`.
      target: leaves of the model, by path.
      base: likewise, of a model of the base's width and of the same depth.
      width: of the model over the base's.
      depth: likewise.
      branch_init: as `config.contracts.Roles`.
      pieces: leaves that a transform made: path -> the leaf of the model and of the base that it
        is a piece of; None where that is stored, too.

    Raises ConfigError where the two models do not have the same leaves.
    """
    if optim.parametrization == "standard":
        return Parametrization(tuple(target.values()), (Multipliers(),) * len(target))
    if target.keys() != base.keys():
        odd = min(target.keys() ^ base.keys())
        raise ConfigError(
            f"optim.base_width={optim.base_width}: a model of that width has other parameters "
            f"({odd}); give the width of one that differs in its sizes only"
        )
    of = functools.partial(
        _multipliers, optim.name, width, depth, ALPHA[optim.parametrization], branch_init
    )
    pieces = pieces or {}
    found = {path: of(leaf, base[path], path in pieces) for path, leaf in target.items()}
    made = {whole[0].path: of(*whole) for whole in pieces.values() if whole}
    for path, whole in pieces.items():
        # A product of two, each of which has the root of what it has.
        init = math.sqrt(made[whole[0].path].init) if whole else 1.0
        found[path] = replace(found[path], init=init, forward=1.0)
    return Parametrization(
        tuple(target.values()),
        tuple(found.values()),
        tuple((path, one.forward) for path, one in made.items()),
    )


def _multipliers(
    name: str,
    width: float,
    depth: float,
    alpha: float,
    branch_init: float,
    leaf: Leaf,
    base: Leaf,
    piece: bool = False,
) -> Multipliers:
    r_in, r_out = leaf.fan_in / base.fan_in, leaf.fan_out / base.fan_out
    init = forward = epsilon = 1.0
    if leaf.role == "output":
        init, forward = math.sqrt(r_in), 1 / r_in
    elif leaf.role == "input" and leaf.looked_up:
        init = math.sqrt(r_out)
    rate = _rate(name, leaf, base, piece)
    # The gradient of the outputs' bias is the loss's own.
    if name in _WITH_EPSILON and not ("outputs" in leaf.axes and r_out == 1 and not leaf.ins):
        epsilon = 1 / width
    if "tied" in leaf.place:
        forward = 1 / r_out
    if "attention" in leaf.place:
        # Logits over the channels of a head, not over the root of their number.
        forward = math.sqrt(base.shape[-1] / leaf.shape[-1])
    if "branches" in leaf.place and alpha:
        forward *= depth**-alpha
        init *= depth**-branch_init
    if "blocks" in leaf.place and alpha:
        rate *= depth ** (2 * alpha - 1 if name == "sgd" else alpha - 1)
        epsilon *= depth**-alpha if name in _WITH_EPSILON else 1.0
    return Multipliers(init, forward, rate, epsilon)


def _rate(name: str, leaf: Leaf, base: Leaf, piece: bool) -> float:
    """By width alone; a `piece` of a matrix is as hidden."""
    r_in, r_out = leaf.fan_in / base.fan_in, leaf.fan_out / base.fan_out
    hidden = piece or leaf.role == "hidden"
    if name == "sgd":
        return r_out / r_in if hidden else {"output": r_in}.get(leaf.role, r_out)
    if not hidden:
        return 1.0
    if name == "muon" and leaf.role == "hidden":  # the others are adamw's
        return _spectral(leaf) / _spectral(base)
    return 1 / r_in


def _spectral(leaf: Leaf) -> float:
    """What an update of the spectral norm sqrt(max(fan-in, fan-out)), as `muon.py` makes them, is
    multiplied by for one of sqrt(fan-out / fan-in).
    """
    return math.sqrt(leaf.fan_out / leaf.fan_in / max(leaf.fan_in, leaf.fan_out))


def without(scale: Parametrization, path: str, field: str) -> Parametrization:
    """With one multiplier of one leaf at 1, as if it had been forgotten. Raises KeyError for a path
    that is no leaf's.
    """
    if path not in scale.by_path:
        raise KeyError(path)
    found = [
        replace(of, **{field: 1.0}) if leaf.path == path else of
        for leaf, of in zip(scale.leaves, scale.multipliers, strict=True)
    ]
    return replace(scale, multipliers=tuple(found))
