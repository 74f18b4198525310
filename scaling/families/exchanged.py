"""How other programs name, lay out and describe what a family has: one table an architecture, read
in both directions.

A table says which of their tensors is which of our parameters, and which key of their `config.json`
is which field of our config. Families list theirs in `Family.exchange`; `scaling/exchange` reads
and writes the files. NumPy only.
"""

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scaling.errors import ConfigError

_NAMED = 3  # tensors that an error lists


@dataclass(frozen=True)
class Tensor:
    """One of their tensors, or one a block ("{layer}" in its name) or an expert ("{expert}")."""

    theirs: str
    ours: tuple[str, ...]  # paths; of several, the outputs stand side by side in theirs
    # How many of our axes a matrix sums over: theirs is [outputs, inputs], or the reverse. 0: a
    # vector. None: it is laid out as ours
    inputs: int | None = None
    outputs_first: bool = True

    def to_theirs(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Theirs, of ours of one block and expert."""
        if self.inputs is None:
            return parts[0]
        sides = [math.prod(part.shape[: self.inputs]) for part in parts]
        flat = [
            part.reshape(-1) if not self.inputs else part.reshape(side, -1)
            for part, side in zip(parts, sides, strict=True)
        ]
        whole = flat[0] if len(flat) == 1 else np.concatenate(flat, axis=-1)
        return whole.T if self.outputs_first else whole

    def to_ours(
        self, tensor: np.ndarray, shapes: Sequence[tuple[int, ...]]
    ) -> Iterator[np.ndarray]:
        """The inverse: ours, of these shapes."""
        if self.inputs is None:
            yield tensor
            return
        whole, at = tensor.T if self.outputs_first else tensor, 0
        for shape in shapes:
            wide = math.prod(shape[self.inputs :])
            yield whole[..., at : at + wide].reshape(shape)
            at += wide

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """Of theirs, by those of ours."""
        if self.inputs is None:
            return shapes[0]
        outputs = sum(math.prod(shape[self.inputs :]) for shape in shapes)
        sides = (math.prod(shapes[0][: self.inputs]), outputs) if self.inputs else (outputs,)
        return sides[::-1] if self.outputs_first else sides


@dataclass(frozen=True)
class Architecture:
    """One of theirs, and the models of ours that it can be."""

    name: str  # `model_type` in config.json
    classes: tuple[str, ...]  # `architectures` there
    tensors: tuple[Tensor, ...]
    # Field of our config -> the value that such a model has, or (model) -> that which it follows to
    has: Mapping[str, Any]
    fields: Mapping[str, str]  # field of our config -> their key
    says: Mapping[str, Any]  # their key -> the value that ours is; left out: it is that one
    absent: Mapping[str, Any] = field(default_factory=dict)  # their key -> what it is, left out
    prefix: str = ""  # of all names but the head's; saved without a head, they lack it
    ignored: tuple[str, ...] = ()  # ends of names of tensors that no parameter is in
    # (config.json) -> the same with every key where `fields` has it. Raises ConfigError
    normal: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda given: given
    # (config.json of ours, units of a row) -> what else stands there
    also: Callable[[Mapping[str, Any], int], Mapping[str, Any]] = lambda said, length: {}

    def named(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Tensors by the names that `tensors` says."""
        begins = (self.prefix, "lm_head.")
        return {n if n.startswith(begins) else self.prefix + n: t for n, t in tensors.items()}

    def unlike(self, model: Any) -> list[str]:
        """Fields of a model of ours that such a one has otherwise: "mlp=plain"."""
        found = {name: operator.attrgetter(name)(model) for name in self.has}
        wanted = self.wanted(model)
        return [f"{name}={value}" for name, value in found.items() if value != wanted[name]]

    def wanted(self, model: Any) -> dict[str, Any]:
        """`has` for a model."""
        return {n: value(model) if callable(value) else value for n, value in self.has.items()}


def read(architecture: Architecture, given: Mapping[str, Any]) -> dict[str, Any]:
    """Field of our config -> value, by a config.json. Raises ConfigError for a model that is none
    of ours, naming the key.
    """
    given = architecture.normal(given)
    for key, value in architecture.says.items():
        if given.get(key, value) != value:
            raise ConfigError(
                f"config.json: {key}={given[key]}, and models of this code have only {key}={value}"
            )
    found = {name: value for name, value in architecture.has.items() if not callable(value)}
    for name, key in architecture.fields.items():
        if key not in given and key not in architecture.absent:
            raise ConfigError(
                f"config.json has no {key}, which a {architecture.name} model needs; take the one "
                "that was saved with the weights"
            )
        found[name] = given.get(key, architecture.absent.get(key))
    return found


def written(architecture: Architecture, model: Any, length: int) -> dict[str, Any]:
    """What a config.json says of a resolved model of ours that reads rows of `length` units."""
    sizes = {key: operator.attrgetter(name)(model) for name, key in architecture.fields.items()}
    start = {"architectures": list(architecture.classes), "model_type": architecture.name}
    said = start | sizes | dict(architecture.says)
    return said | dict(architecture.also(said, length))


def to_theirs(
    architecture: Architecture, leaves: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Their tensors by name, views where they can be, of our parameters by path. Raises ConfigError
    for parameters that they have no place for.
    """
    found, taken = dict[str, np.ndarray](), set[str]()
    for tensor in architecture.tensors:
        if not set(tensor.ours) <= leaves.keys():
            continue  # an output matrix that is the embedding
        taken |= set(tensor.ours)
        for name, at in _each(tensor, leaves[tensor.ours[0]].shape):
            found[name] = tensor.to_theirs([leaves[path][at] for path in tensor.ours])
    if left := sorted(leaves.keys() - taken):
        raise ConfigError(f"{architecture.name} has no place for {_listed(left)}")
    return found


def to_ours(
    architecture: Architecture,
    tensors: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, np.ndarray]:
    """Our parameters of these shapes, float32, of their tensors; the inverse of `to_theirs`. Raises
    ConfigError where one is missing, has another shape, or is none of the architecture's.
    """
    ours = {path: np.empty(shape, np.float32) for path, shape in shapes.items()}
    taken, missing, other = set[str](), list[str](), list[str]()
    for tensor in architecture.tensors:
        if not set(tensor.ours) <= shapes.keys():
            continue
        stacks = tensor.theirs.count("{")
        parts = [shapes[path][stacks:] for path in tensor.ours]
        for name, at in _each(tensor, shapes[tensor.ours[0]]):
            taken.add(name)
            if name not in tensors:
                missing.append(name)
            elif (there := tensors[name].shape) != (here := tensor.shape(parts)):
                other.append(f"{name} is {list(there)}, by config.json {list(here)}")
            else:
                for path, part in zip(
                    tensor.ours, tensor.to_ours(tensors[name], parts), strict=True
                ):
                    ours[path][at] = part
    if missing:
        raise ConfigError(f"the weights lack {_listed(missing)}")
    if other:
        raise ConfigError(f"the weights are of another size: {_listed(other)}")
    if strange := [n for n in tensors if n not in taken and not n.endswith(architecture.ignored)]:
        raise ConfigError(
            f"a {architecture.name} model has no place for the weights {_listed(strange)}"
        )
    return ours


def _each(tensor: Tensor, shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(their name, place in ours) of each block and expert."""
    for at in np.ndindex(shape[: tensor.theirs.count("{")]):
        yield tensor.theirs.format(**dict(zip(("layer", "expert"), at, strict=False))), at


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return "; ".join(names[:_NAMED]) + more


def nearest(architectures: Sequence[Architecture], model: Any) -> Architecture:
    """The architecture that a resolved model is. Raises ConfigError, with what those that are
    nearest have otherwise.
    """
    missed = {one.name: one.unlike(model) for one in architectures}
    fewest = min(map(len, missed.values()))
    close = [one for one in architectures if len(missed[one.name]) == fewest]
    if not fewest:
        return close[0]
    unlike = dict.fromkeys(text for one in close for text in missed[one.name])
    has = []
    for one in close:
        wanted, fields = one.wanted(model), [t.partition("=")[0] for t in missed[one.name]]
        has.append(f"{one.name} has " + ", ".join(f"model.{n}={wanted[n]}" for n in fields))
    raise ConfigError(
        f"{', '.join(f'model.{text}' for text in unlike)}: no architecture that is known of others "
        f"is such; {'; '.join(has)}"
    )
