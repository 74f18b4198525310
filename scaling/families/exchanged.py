"""How other programs name, lay out and describe what a family has: one table an architecture, read
in both directions.

A table says which of their tensors is which of our parameters, and which key of their `config.json`
is which field of our config. Families list theirs in `Family.exchange`; `scaling/exchange` reads
and writes the files. NumPy only.
"""

import dataclasses
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scaling.errors import ConfigError

_NAMED = 3  # tensors that an error lists
# Their name -> ours.
ACTIVATIONS = {
    **{"gelu": "gelu_exact", "gelu_new": "gelu", "gelu_pytorch_tanh": "gelu"},
    **{"relu": "relu", "silu": "silu"},
}


@dataclass(frozen=True)
class Tensor:
    """One of their tensors, or one a block ("{layer}" in its name) or an expert ("{expert}")."""

    theirs: str
    ours: tuple[str, ...]  # paths; of several, the outputs stand side by side in theirs
    # How many of our axes a matrix sums over: theirs is [outputs, inputs], or the reverse. 0: a
    # vector. None: it is laid out as ours
    inputs: int | None = None
    outputs_first: bool = True
    first: int = 0  # their number of our first block

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
class Backwards(Tensor):
    """A matrix or vector whose outputs stand in the reverse order."""

    def to_theirs(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """As `Tensor`."""
        return super().to_theirs([part[..., ::-1] for part in parts])

    def to_ours(
        self, tensor: np.ndarray, shapes: Sequence[tuple[int, ...]]
    ) -> Iterator[np.ndarray]:
        """As `Tensor`."""
        return (part[..., ::-1] for part in super().to_ours(tensor, shapes))


@dataclass(frozen=True)
class Alone(Tensor):
    """Laid out as ours, behind axes of length 1."""

    before: int = 1  # of these

    def to_theirs(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """As `Tensor`."""
        return parts[0][(None,) * self.before]

    def to_ours(
        self, tensor: np.ndarray, shapes: Sequence[tuple[int, ...]]
    ) -> Iterator[np.ndarray]:
        """As `Tensor`."""
        yield tensor[(0,) * self.before]

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """As `Tensor`."""
        return (1,) * self.before + shapes[0]


@dataclass(frozen=True)
class Kernel(Tensor):
    """Of a convolution: theirs [outputs, inputs, height, width], ours [height, width, inputs,
    outputs], or all but the last as one axis.
    """

    window: tuple[int, int, int] | None = None  # height, width and inputs of such an axis

    def to_theirs(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """As `Tensor`."""
        (part,) = parts
        return part.reshape(*self._ours(part.shape)).transpose(3, 2, 0, 1)

    def to_ours(
        self, tensor: np.ndarray, shapes: Sequence[tuple[int, ...]]
    ) -> Iterator[np.ndarray]:
        """As `Tensor`."""
        yield tensor.transpose(2, 3, 1, 0).reshape(shapes[0])

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """As `Tensor`."""
        height, width, inputs, outputs = self._ours(shapes[0])
        return outputs, inputs, height, width

    def _ours(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if self.window is None else (*self.window, shape[-1])


def linear(theirs: str, ours: str, inputs: int = 1, name: str = "w") -> tuple[Tensor, Tensor]:
    """A matrix [outputs, inputs] and its bias; `name`: of ours, from where the bias stands."""
    return (
        Tensor(f"{theirs}.weight", (f"{ours}/{name}",), inputs),
        Tensor(f"{theirs}.bias", (f"{ours}/bias",), 0),
    )


def layer_norm(theirs: str, ours: str) -> tuple[Tensor, Tensor]:
    """A scale and a bias."""
    return Tensor(f"{theirs}.weight", (f"{ours}/scale",)), Tensor(
        f"{theirs}.bias", (f"{ours}/bias",)
    )


@dataclass(frozen=True)
class Architecture:
    """One of theirs, and the models of ours that it can be."""

    name: str  # `model_type` in config.json, which several have that differ in their heads
    classes: tuple[str, ...]  # `architectures` there
    tensors: tuple[Tensor, ...]  # that a model of any size has
    # Field of our config -> the value that such a model has, or (model) -> that which it follows to
    has: Mapping[str, Any]
    fields: Mapping[str, str]  # field of our config -> their key; "_key": it is not written
    says: Mapping[str, Any]  # their key -> the value that ours is; left out: it is that one
    absent: Mapping[str, Any] = field(default_factory=dict)  # their key -> what it is, left out
    # (resolved model of ours) -> the other tensors
    sized: Callable[[Any], tuple[Tensor, ...]] = lambda model: ()
    # Key of `fields` -> their value -> ours
    values: Mapping[str, Mapping[Any, Any]] = field(default_factory=dict)
    prefix: str = ""  # of all names but the head's; saved without a head, they lack it
    heads: tuple[str, ...] = ("lm_head.",)  # how those of the head begin
    ignored: tuple[str, ...] = ()  # ends of names of tensors that no parameter is in
    # (config.json, and names of tensors as "_names" where they are known) -> the same with every
    # key where `fields` has it. Raises ConfigError
    normal: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda given: given
    # (config.json of ours, units of a row) -> what else stands there
    also: Callable[[Mapping[str, Any], int], Mapping[str, Any]] = lambda said, length: {}

    def of(self, model: Any) -> "Architecture":
        """With all tensors of a resolved model of ours."""
        return dataclasses.replace(
            self, tensors=self.tensors + self.sized(model), sized=lambda model: ()
        )

    def named(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Tensors by the names that `tensors` says."""
        begins = (self.prefix, *self.heads)
        return {n if n.startswith(begins) else self.prefix + n: t for n, t in tensors.items()}

    def unlike(self, model: Any) -> list[str]:
        """Fields of a model of ours that such a one has otherwise: "mlp=plain"."""
        found = {name: operator.attrgetter(name)(model) for name in self.has}
        wanted = self.wanted(model)
        return [f"{name}={value}" for name, value in found.items() if value != wanted[name]]

    def wanted(self, model: Any) -> dict[str, Any]:
        """`has` for a model."""
        return {n: value(model) if callable(value) else value for n, value in self.has.items()}


def read(
    architecture: Architecture, given: Mapping[str, Any], names: Iterable[str] | None = None
) -> dict[str, Any]:
    """Field of our config -> value, by a config.json. Raises ConfigError for a model that is none
    of ours, naming the key.

    Args:
      names: of the tensors beside it, where they are known.
    """
    given = architecture.normal(dict(given) | ({} if names is None else {"_names": list(names)}))
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
        if key in architecture.values:
            known = architecture.values[key]
            if found[name] not in known:
                raise ConfigError(
                    f"config.json: {key}={found[name]}, and models of this code have only "
                    f"{', '.join(map(str, known))}"
                )
            found[name] = known[found[name]]
    return found


def among(architectures: Sequence[Architecture], given: Mapping[str, Any]) -> Architecture:
    """Of those with the `model_type` of a config.json, that which its `architectures` names, or
    the first where it names none. Raises ConfigError naming those that there are.
    """
    here = [one for one in architectures if one.name == given.get("model_type")]
    named = given.get("architectures") or here[0].classes
    if len(here) == 1:
        return here[0]
    for one in here:
        if set(one.classes) & set(named):
            return one
    raise ConfigError(
        f"config.json: architectures={', '.join(map(str, named))}, and of {here[0].name} models "
        f"these are known here: {', '.join(name for one in here for name in one.classes)}"
    )


def written(architecture: Architecture, model: Any, length: int) -> dict[str, Any]:
    """What a config.json says of a resolved model of ours that reads rows of `length` units."""
    sizes = dict[str, Any]()
    for name, key in architecture.fields.items():
        own = operator.attrgetter(name)(model)
        theirs = [value for value, ours in architecture.values.get(key, {}).items() if ours == own]
        sizes[key] = theirs[0] if theirs else own
    start = {"architectures": list(architecture.classes), "model_type": architecture.name}
    said = start | sizes | dict(architecture.says)
    said |= architecture.also(said, length)
    return {key: value for key, value in said.items() if not key.startswith("_")}


def to_theirs(
    architecture: Architecture, leaves: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Their tensors by name, views where they can be, of our parameters by path. Raises ConfigError
    for parameters that they have no place for.
    """
    found, taken = dict[str, np.ndarray](), set[str]()
    shapes = {path: leaf.shape for path, leaf in leaves.items()}
    for tensor, name, at in _present(architecture, shapes):  # a tied output matrix is not there
        taken |= set(tensor.ours)
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
    missing, other = list[str](), list[str]()
    for tensor, name, at in _present(architecture, shapes):
        parts = [shapes[path][len(at) :] for path in tensor.ours]
        if name not in tensors:
            missing.append(name)
        elif (there := tensors[name].shape) != (here := tensor.shape(parts)):
            other.append(f"{name} is {list(there)}, by config.json {list(here)}")
        elif tensors[name].dtype.kind in "iu":
            other.append(f"{name} holds whole numbers")
        else:
            for path, part in zip(tensor.ours, tensor.to_ours(tensors[name], parts), strict=True):
                ours[path][at] = part
    if missing:
        raise ConfigError(f"the weights lack {_listed(missing)}")
    if other:
        raise ConfigError(f"the weights are of another size or kind: {_listed(other)}")
    if strange := [
        n for n in unused(architecture, tensors, shapes) if not n.endswith(architecture.ignored)
    ]:
        raise ConfigError(
            f"a {architecture.name} model has no place for the weights {_listed(strange)}"
        )
    return ours


def unused(
    architecture: Architecture, tensors: Iterable[str], shapes: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """Of the names of their tensors, those that none of our parameters of these shapes is in."""
    taken = {name for _, name, _ in _present(architecture, shapes)}
    return [name for name in tensors if name not in taken]


def _present(
    architecture: Architecture, shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[Tensor, str, tuple[int, ...]]]:
    """(tensor, their name, place in ours) of all that parameters of these shapes have."""
    for tensor in architecture.tensors:
        if set(tensor.ours) <= shapes.keys():
            for name, at in _each(tensor, shapes[tensor.ours[0]]):
                yield tensor, name, at


def _each(tensor: Tensor, shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(their name, place in ours) of each block and expert."""
    for at in np.ndindex(shape[: tensor.theirs.count("{")]):
        numbers = at if not at else (at[0] + tensor.first, *at[1:])
        yield tensor.theirs.format(**dict(zip(("layer", "expert"), numbers, strict=False))), at


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return "; ".join(names[:_NAMED]) + more


def nearest(architectures: Sequence[Architecture], model: Any) -> Architecture:
    """The architecture that a resolved model is. Raises ConfigError, with what those that are
    nearest have otherwise.
    """
    missed = [one.unlike(model) for one in architectures]
    fewest = min(map(len, missed))
    close = [
        (one, of_it)
        for one, of_it in zip(architectures, missed, strict=True)
        if len(of_it) == fewest
    ]
    if not fewest:
        return close[0][0]
    unlike = dict.fromkeys(text for _, of_it in close for text in of_it)
    several, has = len({one.name for one in architectures}) < len(architectures), []
    for one, of_it in close:
        wanted, fields = one.wanted(model), [t.partition("=")[0] for t in of_it]
        name = one.classes[0] if several else one.name
        has.append(f"{name} has " + ", ".join(f"model.{n}={wanted[n]}" for n in fields))
    raise ConfigError(
        f"{', '.join(f'model.{text}' for text in unlike)}: no architecture that is known of others "
        f"is such; {'; '.join(has)}"
    )
