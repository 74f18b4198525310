"""A model from inside: what its modules give, where its attention looks, and the model cut short.

Takes models as `apply` calls them and their parameters; names modules as a run that is watched
does: "embedding", "final_norm", "blocks.3" (the stream behind block 3) and its parts,
"blocks.3.attention". No family is asked: a block is a module that is applied within the model by
itself (`models/stack.py`), and what no module gives out it tells (`models/observed.py`). Called by
`watch.py`, `passes.py`, the certificate and `scaling/explain`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling import families
from scaling.config import RunConfig
from scaling.models.observed import observing
from scaling.transforms import transform

Array = jax.Array


def plain(config: RunConfig) -> Any:
    """The module of a resolved run as it can be looked into, every block a call of its own. It
    takes the parameters as used (`transform.used`).
    """
    return families.build(families.unrolled(config.model))


def rms(x: Array) -> Array:
    """Root mean square of all numbers; a float32 scalar."""
    return jnp.sqrt(jnp.mean(jnp.square(x.astype(jnp.float32))))


def activations(
    model: transform.Model,
    params: Any,
    batch: Any,
    stack: str,
    keep: Callable[[Array], Array] = rms,
    told: Collection[str] = ("logits",),
) -> dict[str, Array]:
    """What the modules of an unrolled model give, and what its parts tell of themselves, by name.

    Args:
      stack: what the blocks are called, whose parameters lie stacked in `params`.
      keep: what is kept of an activation.
      told: "logits": RMS of the attention logits.
    """
    look = _Look(stack, keep, told)
    with nn.intercept_methods(look.intercept), observing(look.told):
        model.apply({"params": params}, batch)
    return look.found


def attention(model: Any, params: Any, batch: Any) -> dict[str, Array]:
    """What each query gives each slot, float32 [B, H, L, S], of every attention of an unrolled
    model in the order in which they are applied: "0.attention" is that of the first block.
    """
    look = _Look("", lambda x: x, ("weights",))
    with nn.intercept_methods(look.intercept), observing(look.told):
        model.apply({"params": params}, batch)
    found = {name: x for name, x in look.found.items() if name.startswith("weights/")}
    return {name.removeprefix("weights/").removeprefix("."): x for name, x in found.items()}


def stream(model: Any, params: Any, batch: Any, blocks: int) -> Array:
    """What stands behind so many blocks of an unrolled model: with 0, what the first one reads."""
    look = _Look("", lambda x: x, ())
    with nn.intercept_methods(look.intercept), observing(_nothing):
        model.apply({"params": params}, batch)
    name = f".{blocks - 1}" if blocks else "embedding"
    return look.found[f"activation/{name}"]


@dataclass(frozen=True)
class Cut:
    """An unrolled model of which only the first blocks change the stream: what it says is read off
    the stream behind them by all that stands behind the last block (nostalgebraist 2020,
    Interpreting GPT: the logit lens).
    """

    model: Any
    blocks: int  # that are applied
    depth: int  # blocks that there are; what is applied behind them stays

    def apply(self, variables: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The outputs of the model cut short."""
        within = applied = 0

        def intercept(call: Any, given: Any, named: Any, context: Any) -> Any:
            nonlocal within, applied
            if context.method_name != "__call__" or context.module.path:
                return call(*given, **named)
            if not within:
                within += 1
                try:
                    return call(*given, **named)
                finally:
                    within -= 1
            number, applied = applied, applied + 1
            made = call(*given, **named)
            if not self.blocks <= number < self.depth:
                return made
            leaves, structure = jax.tree.flatten(made)
            return jax.tree.unflatten(structure, [given[0], *leaves[1:]])

        with nn.intercept_methods(intercept), observing(_nothing):
            return self.model.apply(variables, *args, **kwargs)


def _nothing(kind: str, part: str, value: Callable[[], Any]) -> None:
    """Hears nothing; but somebody looks, and the blocks run one after the other."""


class _Look:
    """Meets every call of a module in the model and in its blocks, which are applied within it."""

    def __init__(self, stack: str, keep: Callable[[Array], Array], kinds: Collection[str]):
        self._stack, self._keep, self._kinds, self._applied = stack, keep, kinds, 0
        self._at: list[str] = []  # the model, the block
        self.found: dict[str, Array] = {}

    def intercept(self, call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        path = context.module.path
        if context.method_name != "__call__" or len(path) > 1:
            return call(*args, **kwargs)
        if path:
            return self._kept(".".join(filter(None, (self._at[-1], *path))), call(*args, **kwargs))
        if not self._at:
            name = ""
        else:
            name = f"{self._stack}.{self._applied}"
            if not self._applied:
                self._kept("embedding", args[0])
            self._applied += 1
        self._at.append(name)
        try:
            given = call(*args, **kwargs)
        finally:
            self._at.pop()
        return self._kept(name, given) if name else given

    def _kept(self, name: str, given: Any) -> Any:
        """What a module gives: of several results the first is its output."""
        self.found[f"activation/{name}"] = self._keep(jax.tree.leaves(given)[0])
        return given

    def told(self, kind: str, part: str, value: Callable[[], Array]) -> None:
        """What a part of a block tells of itself (`models/observed.py`)."""
        if kind in self._kinds:
            self.found[f"{kind}/{self._at[-1]}.{part}"] = value()
