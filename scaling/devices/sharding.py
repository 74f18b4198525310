"""Where every array lives: one rule table, and a check that nothing is left out.

Models name the axes of their parameters and activations; the two tables below map those names to
mesh axes, for data parallel, FSDP, tensor parallel and their products alike: an axis of size 1
shards nothing. Takes a mesh and shapes; gives shardings, and rows that say what each leaf costs
a device. Called by `scaling/train` and `launch.py`.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scaling.devices import meshes
from scaling.errors import ConfigError
from scaling.units import binary

Rules = tuple[tuple[str, Any], ...]  # logical axis -> mesh axis, several, or None: whole

PARAMETER_RULES: Rules = (
    ("expert", "expert"),
    # What is no expert's is split over `expert` too, as over `fsdp`: both have other rows.
    ("embed", ("fsdp", "expert")),
    ("embed", "fsdp"),
    ("router", None),
    ("vocab", ("tensor", "stage")),
    ("heads", "tensor"),
    ("kv_heads", "tensor"),
    ("mlp", "tensor"),
    ("inputs", ("fsdp", "expert")),  # pixels or features of the data
    ("positions", None),  # places of a sequence that parameters tell apart
    ("outputs", "tensor"),  # classes or targets
    ("gates", None),
    ("kernel_height", None),
    ("kernel_width", None),
    ("kernel_inputs", None),  # of a group of channels, or of the image
    ("squeeze", None),  # few channels, by which many are weighed
    ("head_dim", None),
    ("norm", None),
    ("lora_rank", None),
    ("rank", None),  # of a matrix that is stored as two, in proportion to its smaller side
    ("layers", "stage"),
)
ACTIVATION_RULES: Rules = (
    ("batch", meshes.BATCH_AXES),
    ("seq", "seq"),
    ("act_seq", ("seq", "tensor")),  # of the residual stream and its norms, between the blocks
    ("act_heads", "tensor"),
    ("act_kv_heads", "tensor"),
    ("act_mlp", "tensor"),
    ("act_embed", None),
    # The partitioner keeps the logits as the output matrix lies: see WHOLE_IF_INDIVISIBLE.
    ("act_vocab", PartitionSpec.UNCONSTRAINED),
)
# The data, not the config, decide the size of these (257 tokens with bytes): a mesh axis that does
# not divide it is no error, the array stays whole along it, and the table says so.
WHOLE_IF_INDIVISIBLE = ("vocab", "inputs", "outputs")
# Axes of tables that are looked up: their parameters do not compute.
LOOKED_UP = ("vocab",)
# Axes whose size does not follow the model's width: the data's, and those of a kernel or a gate.
FINITE = (
    *("vocab", "inputs", "positions", "outputs", "router", "gates", "lora_rank"),
    *("kernel_height", "kernel_width", "kernel_inputs"),
)
# Axes that are alone on one side of a matrix, whatever its others are: that of the channels of the
# stream, and that of the rank between two factors.
ALONE = ("embed", "rank", "lora_rank")
# The config field behind a logical axis, for error messages.
_FIELDS = {
    "embed": "model.width",
    "heads": "model.heads",
    "kv_heads": "model.kv_heads",
    "mlp": "model.width or model.mlp_width",
    "expert": "model.moe.experts",
}


@contextlib.contextmanager
def context(mesh: Mesh) -> Iterator[None]:
    """Inside it, the models' logical constraints on activations hold.

    Those on parameters are left to the shardings of the jitted functions, which know the shapes.
    """
    parameters = tuple((name, PartitionSpec.UNCONSTRAINED) for name, _ in PARAMETER_RULES)
    with jax.set_mesh(mesh), nn.logical_axis_rules(ACTIVATION_RULES + parameters):
        yield


def groups() -> tuple[tuple[str, ...], int]:
    """The axes of the context's mesh along which devices differ in their rows alone, and how many
    groups of devices that makes: each could compute the gradients of its rows by itself.
    """
    shape = jax.sharding.get_abstract_mesh().shape
    axes = tuple(axis for axis in ("replica", "data") if shape.get(axis, 1) > 1)
    return axes, math.prod(shape[axis] for axis in axes)


@contextlib.contextmanager
def within(axes: tuple[str, ...]) -> Iterator[None]:
    """For a function mapped over these mesh axes: its arrays are cut along the others only."""

    def rest(entry: Any) -> Any:
        if entry is PartitionSpec.UNCONSTRAINED:
            return entry
        return tuple(axis for axis in _axes(entry) if axis not in axes) or None

    rules = [(name, rest(entry)) for name, entry in nn.get_logical_axis_rules()]
    with nn.logical_axis_rules(rules):
        yield


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over the data axes, for an array of any rank."""
    return NamedSharding(mesh, PartitionSpec(meshes.BATCH_AXES))


def stacked_batch_sharding(mesh: Mesh) -> NamedSharding:
    """As `batch_sharding`, for the batches of several steps stacked on a leading axis."""
    return NamedSharding(mesh, PartitionSpec(None, meshes.BATCH_AXES))


# ---- the state


def is_box(x: Any) -> bool:
    """Whether it is an array with its logical axes."""
    return isinstance(x, nn.LogicallyPartitioned)


def unbox(tree: Any) -> Any:
    """The tree without linen's boxes."""
    return jax.tree.map(lambda x: x.value if is_box(x) else x, tree, is_leaf=is_box)


def named_shapes(tree: Any) -> Iterator[tuple[tuple[str | None, ...], tuple[int, ...]]]:
    """(logical axes, shape) of every leaf of a boxed tree; without a box () for the axes."""
    for leaf in jax.tree.leaves(tree, is_leaf=is_box):
        yield _names(leaf) or (), unbox(leaf).shape


def state_shardings(abstract: Any, mesh: Mesh, rules: Rules = PARAMETER_RULES) -> Any:
    """NamedSharding of every leaf of a boxed, abstract train state.

    Optimizer moments carry the boxes of their parameters, and are sharded like them. A leaf without
    a box (a counter) is replicated, and so are Adafactor's factored moments, whose rank is not
    their parameter's: they are vectors. Raises ConfigError for an axis that does not divide.
    """

    def of(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        names, shape = _names(leaf), unbox(leaf).shape
        if names is None:
            return replicated(mesh)
        spec = _spec(_name(path), names, shape, mesh, rules)
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(of, abstract, is_leaf=is_box)


def _names(leaf: Any) -> tuple[str | None, ...] | None:
    """Logical axes of a leaf, or None: no box, or Adafactor's vectors and placeholders in one."""
    if not is_box(leaf) or leaf.value.size == 1 or len(leaf.names) != len(leaf.value.shape):
        return None
    return tuple(leaf.names)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _spec(
    path: str, names: tuple[str | None, ...], shape: tuple[int, ...], mesh: Mesh, rules: Rules
) -> PartitionSpec:
    known = {name for name, _ in rules}
    for name in names:
        if name is not None and name not in known:
            raise ValueError(f"{path}: no rule for the logical axis {name!r}")
    spec: list[Any] = [_used(entry, mesh) for entry in nn.logical_to_mesh_axes(names, rules) or ()]
    for i, (name, size) in enumerate(zip(names, shape, strict=True)):
        ways = _ways(spec[i], mesh)
        if size % ways == 0:
            continue
        if name in WHOLE_IF_INDIVISIBLE:
            spec[i] = _dividing(spec[i], size, mesh)
            continue
        axes = " x ".join(f"mesh.{a}={mesh.shape[a]}" for a in _axes(spec[i]))
        raise ConfigError(
            f"{path}: axis {i} ({name}) has size {size}, which is not divisible by {axes}; change "
            f"{_FIELDS.get(str(name), 'the model')} or the mesh"
        )
    return PartitionSpec(*spec)


def _used(entry: Any, mesh: Mesh) -> Any:
    """An entry of a PartitionSpec without the mesh axes of size 1."""
    axes = tuple(axis for axis in _axes(entry) if mesh.shape[axis] > 1)
    return axes if len(axes) > 1 else axes[0] if axes else None


def _axes(entry: Any) -> tuple[str, ...]:
    """Mesh axes of one entry of a PartitionSpec."""
    if entry is None:
        return ()
    return (entry,) if isinstance(entry, str) else tuple(entry)


def _dividing(entry: Any, size: int, mesh: Mesh) -> Any:
    """The first mesh axes of an entry, as many as divide the size; None: not even one."""
    axes = _axes(entry)
    while axes and size % _ways(axes, mesh):
        axes = axes[:-1]
    return axes or None


def _ways(entry: Any, mesh: Mesh) -> int:
    return math.prod(mesh.shape[axis] for axis in _axes(entry))


# ---- the check

_LARGE_BYTES = 2**20
_LARGE_SHARE = 0.01  # of the whole state


@dataclass(frozen=True)
class Row:
    """One leaf of the state, as it lies on the mesh."""

    path: str
    shape: tuple[int, ...]
    axes: tuple[str | None, ...]  # logical names; () if it has none
    spec: PartitionSpec
    bytes_per_device: int
    host: bool  # lies in the host's memory between steps
    replicated: bool  # every device along fsdp, tensor, expert and stage has all of it
    warning: str | None  # a large leaf that is replicated although the mesh could shard it


def check(abstract: Any, shardings: Any, mesh: Mesh) -> list[Row]:
    """One row a leaf of the boxed, abstract state, in tree order."""
    leaves = jax.tree_util.tree_leaves_with_path(abstract, is_leaf=is_box)
    places = jax.tree.leaves(shardings)
    arrays = [unbox(leaf) for _, leaf in leaves]
    total = sum(array.size * array.dtype.itemsize for array in arrays)
    could = [a for a in ("fsdp", "tensor", "expert", "stage") if mesh.shape[a] > 1]
    rows = []
    for (path, leaf), array, place in zip(leaves, arrays, places, strict=True):
        size = array.size * array.dtype.itemsize
        ways = math.prod(_ways(entry, mesh) for entry in place.spec)
        warning = None
        if ways == 1 and could and size > max(_LARGE_BYTES, _LARGE_SHARE * total):
            warning = (
                f"{_name(path)} ({binary(size)}, {size / total:.0%} of the state) lies whole on "
                f"every device: no rule shards it over {' or '.join(could)}"
            )
        rows.append(
            Row(
                path=_name(path),
                shape=tuple(array.shape),
                axes=_names(leaf) or (),
                spec=place.spec,
                bytes_per_device=size // ways,
                host=place.memory_kind == meshes.HOST,
                replicated=ways == 1,
                warning=warning,
            )
        )
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text, the sum a device, and every warning once more at the end."""
    head = ("leaf", "shape", "axes", "mesh axes", "bytes/device")
    cells = [head]
    for row in rows:
        names = [f"{n}={s}" for n, s in zip(row.axes, row.shape, strict=False)]
        spec = [",".join(_axes(entry)) or "-" for entry in row.spec]
        cells.append(
            (
                row.path,
                "x".join(map(str, row.shape)) or "scalar",
                " ".join(names) or "-",
                ("whole" if row.replicated else " ".join(spec)) + (" (host)" if row.host else ""),
                binary(row.bytes_per_device),
            )
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in cells]
    total = sum(row.bytes_per_device for row in rows if not row.host)
    lines.append(f"state: {binary(total)} a device, {len(rows)} leaves")
    if any(row.host for row in rows):
        away = sum(row.bytes_per_device for row in rows if row.host)
        lines.append(f"in host memory: {binary(away)} a device")
    return "\n".join(lines + [f"WARNING: {row.warning}" for row in rows if row.warning])
