"""A model whose parameters are stored in another form than it uses.

`build` takes a run's config and gives what `model.init` and `model.apply` are called on everywhere:
in training and evaluation, packed or alone, in debugging and in the counts of costs. Without a
transform that is the flax module itself, and nothing of this is in its program.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import jax

from scaling import families
from scaling.config import RunConfig, choices, contracts, override
from scaling.config.amounts import resolved
from scaling.config.choices import ModelConfig, TransformConfig
from scaling.config.teacher import teacher
from scaling.errors import ConfigError, nearest
from scaling.optim import BY_ROLE, Parametrization, parametrize, roles, subtree
from scaling.optim.subtree import matches
from scaling.transforms.beside import MAP, anchored, apart
from scaling.transforms.taught import taught


class Model(Protocol):
    """As a flax module is called."""

    def init(self, *args: Any, **kwargs: Any) -> Any:
        """(key, batch) -> {"params": the parameters as stored, boxed}."""

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        """({"params": as stored}, batch, ...) -> outputs."""


@dataclass(frozen=True)
class Functions:
    """A transform of parameters, pure."""

    # (parameters as used, boxed, key) -> as stored, boxed: those and what is stored beside them.
    # Raises ConfigError for what cannot be
    init: Callable[[Any, jax.Array], Any]
    apply: Callable[[Any], Any]  # as stored -> as used
    trained: Callable[[str], bool]  # whether the stored leaf at a path is trained
    # (as stored and drawn, the same with another run's parameters at their places, if it begins
    # with one) -> what the run begins with
    begun: Callable[[Any, Any], Any] = lambda drawn, taken: taken
    # Whether it is to be given, as drawn, what the other run itself began with
    earlier: bool = False
    # (as stored, updates made, hyper-parameters) -> as stored after each update; None: the same
    updated: Callable[[Any, jax.Array, Mapping[str, Any]], Any] | None = None
    # (as stored) -> scalars of the state after an update, for the lines of training
    measured: Callable[[Any], dict[str, jax.Array]] = lambda stored: {}
    # Whether the used leaf at a path is the transform's own, which the model does not make itself
    own: Callable[[str], bool] = lambda path: False


# Parameters are stored as they are used, and all are trained.
_PLAIN = Functions(lambda params, key: params, lambda stored: stored, lambda path: True)

# The leaves of the model as it uses them, by path: a function, as they have to be traced.
Leaves = Callable[[], Mapping[str, roles.Leaf]]


@dataclass(frozen=True)
class Transformed:
    """A flax module, its parameters stored in another form."""

    module: Any
    functions: Functions

    def init(self, key: jax.Array, batch: Any) -> dict[str, Any]:
        """{"params": as stored, boxed}; what is used of it is drawn as the module draws it."""
        return {"params": self.functions.init(self.module.init(key, batch)["params"], key)}

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """The module's outputs with the parameters as used."""
        with jax.named_scope("transform"):
            used = self.functions.apply(variables["params"])
        return self.module.apply({"params": used}, *args, **kwargs)


def functions(config: RunConfig) -> Functions | None:
    """Those of a run, with its parametrization's factors; None: it has neither, and nothing lies
    beside its parameters.
    """
    found = _with_factors(config, parametrization(config))
    if not config.distill.weight and not config.ewc.weight:
        return found
    beside = apart(found or _PLAIN)
    return anchored(beside) if config.ewc.weight else beside


def _with_factors(config: RunConfig, scale: Parametrization | None) -> Functions | None:
    found = _own(config.model, config.data, config.transform)
    if scale is None or not scale.varies("forward"):
        return found
    one = found or _PLAIN
    return dataclasses.replace(
        one, apply=lambda stored: scale.applied("forward", one.apply(stored))
    )


def _own(model: Any, data: Any, config: TransformConfig) -> Functions | None:
    lazy = choices.transform(config).functions
    if lazy is None:
        return None
    return choices.load(lazy)(config, lambda: _leaves(model, data, choices.new("transform")))


def build(config: RunConfig) -> Model:
    """The model of a resolved run, which takes the parameters as they are stored."""
    found = functions(config)
    built = _applied(config.model, found)
    if not config.distill.weight:
        return built
    as_used = (found or _PLAIN).apply
    return taught(built, config.model, teacher(config), config.distill, as_used)


def scaled(config: RunConfig, scale: Parametrization) -> Model:
    """As `build`, with these multipliers in the place of the run's own."""
    return _applied(config.model, _with_factors(config, scale))


def _applied(model: ModelConfig, found: Functions | None) -> Model:
    module = families.build(model)
    return module if found is None else Transformed(module, found)


def trained(config: RunConfig) -> Callable[[Any], Any]:
    """A function from the parameters as stored to the part of them that is trained: the same tree,
    without a transform.
    """
    found = functions(config)
    if found is None:
        return lambda params: params
    return lambda params: subtree.where(params, found.trained)


def own(config: RunConfig) -> Callable[[str], bool]:
    """Whether the leaf at a path, of the parameters as used, is the transform's own."""
    found = functions(config)
    return Functions.own if found is None else found.own


def used(config: RunConfig, params: Any) -> Any:
    """The parameters as the model uses them, of those that are stored."""
    found = functions(config)
    return params if found is None else found.apply(params)


# ---- what its parameters are


def leaves(config: RunConfig) -> Mapping[str, roles.Leaf]:
    """The leaves of a resolved run's model as it uses them, by path."""
    model, data = cast(Any, config.model), cast(Any, config.data)
    return _leaves(model, data, choices.new("transform"))


def parametrization(config: RunConfig) -> Parametrization | None:
    """Of the parameters of a resolved run as they are stored; None: all are alike to its program.

    Raises ConfigError where there is no model of the base's shape.
    """
    if config.optim.parametrization == "standard" and config.optim.name not in BY_ROLE:
        return None
    return described(config)


def described(config: RunConfig) -> Parametrization:
    """`parametrization` of any run: what each parameter is, with its multipliers."""
    optim = config.optim
    model: Any = config.model
    rest: tuple[Any, Any] = config.data, config.transform
    plain: tuple[Any, Any] = config.data, choices.new("transform")
    stored = {**_leaves(model, *rest), **_map(config, model)}
    if optim.parametrization == "standard":
        return parametrize(optim, stored, stored)
    family, width = choices.family(model), resolved(optim.base_width)
    base: Any = model
    if width != model.width:
        base = override(config, family.scaled(model, width, model.depth)).model
    found = _own(model, *rest)
    return parametrize(
        optim,
        stored,
        {**_leaves(base, *rest), **_map(config, base)},
        width=model.width / width,
        depth=model.depth / (optim.base_depth or model.depth),
        branch_init=family.roles(model).branch_init,
        pieces=_pieces(
            _leaves(model, *rest),
            _leaves(model, *plain),
            _leaves(base, *plain),
            Functions.own if found is None else found.own,
        ),
    )


def _map(config: RunConfig, model: ModelConfig) -> dict[str, roles.Leaf]:
    """The map of such a student's states to its teacher's, a hidden matrix; none without one."""
    if not (config.distill.weight and config.distill.features):
        return {}
    of: tuple[Any, Any, Any] = teacher(config), config.data, config.distill
    return _map_leaves(cast(Any, model), *of)


@functools.lru_cache(maxsize=16)
def _map_leaves(model: Any, of: Any, data: Any, config: Any) -> dict[str, roles.Leaf]:
    whole = taught(families.build(model), model, of, config, lambda params: params)
    boxed = jax.eval_shape(lambda batch: whole.init(jax.random.key(0), batch), _row(data))
    return roles.leaves({MAP: boxed["params"][MAP]}, contracts.Roles())


def _pieces(
    stored: Mapping[str, roles.Leaf],
    used: Mapping[str, roles.Leaf],
    base: Mapping[str, roles.Leaf],
    own: Callable[[str], bool],
) -> dict[str, tuple[roles.Leaf, roles.Leaf] | None]:
    """As `parametrize` takes them; what is made of pieces has a path that theirs begin with."""
    made = [path for path in used if path not in stored]
    return {
        path: next(((used[of], base[of]) for of in made if path.startswith(f"{of}_")), None)
        for path in stored
        if path not in used and not own(path)
    }


@functools.lru_cache(maxsize=64)  # traced once for all that ask of one model
def _leaves(model: Any, data: Any, transform: Any) -> dict[str, roles.Leaf]:
    """The leaves as stored of a resolved model, on resolved data."""
    built = _applied(model, _own(model, data, transform))
    boxed = jax.eval_shape(lambda batch: built.init(jax.random.key(0), batch), _row(data))
    return roles.leaves(boxed["params"], _roles(model))


def _row(data: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """A batch of one example of resolved data."""
    shapes = choices.kind(data).shapes(data)
    return {
        name: jax.ShapeDtypeStruct((1, *shape), dtype) for name, (shape, dtype) in shapes.items()
    }


def _roles(model: ModelConfig) -> contracts.Roles:
    """Those that the family says; none where it has none to give."""
    try:
        return choices.family(model).roles(model)
    except ConfigError:
        return contracts.Roles()


# ---- which leaves a field means


def patterns(text: str | None) -> list[str]:
    """Those of a field: "query, blocks/mlp"."""
    return [one.strip() for one in (text or "").split(",") if one.strip()]


def check_patterns(field: str, text: str | None, paths: Sequence[str]) -> list[str]:
    """The patterns of a field, each of which means one of the paths. Raises ConfigError."""
    found = patterns(text)
    for one in found:
        if not any(matches(path, [one]) for path in paths):
            names = sorted({name for path in paths for name in (path, *path.split("/"))})
            raise ConfigError(
                f"{field}: {one!r} means none of the parameters that it can{nearest(one, names)}"
            )
    return found
