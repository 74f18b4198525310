"""The mesh: which device stands where, and whether a run can be cut over it.

Takes a MeshConfig and devices, or how many; gives a jax Mesh with all of AXES, an axis of size 1
being unused. What lies where on it: `scaling/devices/sharding.py`. Called by whatever trains or
checks.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh

from scaling.config import MeshConfig, RunConfig, choices, to_dict
from scaling.errors import ConfigError

# All of them are always there. `replica` is the outermost: its neighbours are the farthest apart.
AXES = ("replica", "data", "fsdp", "seq", "tensor", "expert", "stage", "trial")
BATCH_AXES = (
    "replica",
    "data",
    "fsdp",
    "expert",
)  # each device along these has other rows of the batch
HOST = "pinned_host"  # memory of the host that a device reads and writes by itself


def mesh_sizes(config: MeshConfig, devices: int, slices: int = 1) -> dict[str, int]:
    """Devices along each of AXES, for a number of devices in so many slices of TPUs.

    `data=None` takes what the other axes leave. Raises ConfigError, with the fields and the
    numbers, unless the sizes multiply to the number of devices.
    """
    sizes: dict[str, int | None] = to_dict(config)
    fixed = {axis: size for axis, size in sizes.items() if size is not None}
    product = math.prod(fixed.values())
    wanted = " x ".join(f"mesh.{a}={n}" for a, n in fixed.items() if n > 1) or "a mesh of size 1"
    if sizes["data"] is None:
        if devices % product:
            raise ConfigError(
                f"{wanted} needs a multiple of {product} devices, not {devices}; change "
                "the mesh so that it divides them"
            )
        fixed["data"] = devices // product
    elif product != devices:
        raise ConfigError(
            f"{wanted} needs {product} devices, not {devices}; leave mesh.data unset to "
            "use those that the other axes leave, or change the mesh"
        )
    if fixed["replica"] % slices:
        raise ConfigError(
            f"mesh.replica={fixed['replica']} must be a multiple of the {slices} slices, for "
            "only this axis runs over the network between them; set mesh.replica="
            f"{slices}"
        )
    return fixed


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """Mesh with all of AXES over `devices` (default: every device there is).

    Raises ConfigError as `mesh_sizes` does.
    """
    devices = jax.devices() if devices is None else list(devices)
    slices = _slices(devices)
    fixed = mesh_sizes(config, len(devices), len(slices))
    shape = (fixed["replica"] // len(slices), *(fixed[axis] for axis in AXES[1:]))
    # Auto: under Explicit axes, linen's logical constraints are refused.
    types = (AxisType.Auto,) * len(AXES)
    return Mesh(np.concatenate([_within(s, shape) for s in slices]), AXES, axis_types=types)


def abstract_mesh(sizes: Mapping[str, int]) -> AbstractMesh:
    """A mesh of these sizes (one for each of AXES) without devices, for shapes and shardings."""
    shape = tuple(sizes[axis] for axis in AXES)
    return AbstractMesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _slices(devices: list[Any]) -> list[list[Any]]:
    """The devices of each TPU slice, in the order of the slices; other devices all in one list."""
    slices: dict[int, list[Any]] = {}
    for device in devices:
        # A described slice, of which there is only one, has no number.
        number = getattr(device, "slice_index", 0) if device.platform == "tpu" else 0
        slices.setdefault(number, []).append(device)
    sizes = sorted({len(members) for members in slices.values()})
    if len(sizes) > 1:
        raise ConfigError(
            f"the devices lie in {len(slices)} slices of different sizes, {sizes}; a mesh needs "
            "slices of one size"
        )
    return [slices[index] for index in sorted(slices)]


def _within(devices: list[Any], shape: tuple[int, ...]) -> np.ndarray:
    """The devices of one slice as a mesh of this shape, neighbours along the last axes."""
    # But for `trial`, the last of AXES: hardly anything is said along it.
    outer = (shape[-1], *shape[:-1])
    if devices[0].platform == "tpu":
        # It knows the links of the chips. An axis is a product of whole dimensions of the torus
        # where its size allows, else it takes a part of one: without that, most sizes are refused.
        found = mesh_utils.create_device_mesh(outer, devices, allow_split_physical_axes=True)
    else:
        # By number: the devices of a process, and the processes of a machine, follow one another.
        found = np.asarray(sorted(devices, key=lambda device: device.id)).reshape(outer)
    return np.moveaxis(found, 0, -1)


def check_batch(config: RunConfig, mesh: Mesh | AbstractMesh) -> None:
    """Raises ConfigError if a batch, or a piece of one, does not divide over the mesh.

    So it does if the blocks or the microbatches do not fit the pipeline over `stage`.
    """
    rows = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    over = " x ".join(f"{a}={mesh.shape[a]}" for a in BATCH_AXES if mesh.shape[a] > 1)
    train, evals = config.train, config.evals
    piece = train.batch_size // train.microbatches
    if piece % rows:
        raise ConfigError(
            f"train.batch_size={train.batch_size} in train.microbatches={train.microbatches} "
            f"pieces of {piece} rows cannot be split over {rows} devices (mesh {over}); change any "
            "of them"
        )
    if train.noise_scale and train.microbatches * mesh.shape["replica"] * mesh.shape["data"] < 2:
        raise ConfigError(
            "train.noise_scale compares the gradients of pieces of a batch, and this one is whole; "
            "give train.microbatches=2 or more, or mesh.data"
        )
    if evals.batch_size % rows:
        raise ConfigError(
            f"evals.batch_size={evals.batch_size} cannot be split over {rows} devices (mesh "
            f"{over}); change either"
        )
    family, data = choices.family(config.model), config.data
    for axis in ("seq", "expert", "stage"):
        if mesh.shape[axis] > 1 and axis not in family.axes:
            raise ConfigError(
                f"mesh.{axis}={mesh.shape[axis]}: model.family={config.model.family} has nothing "
                "that is cut along it; leave it at 1"
            )
    if data.units_per_example % mesh.shape["seq"]:
        raise ConfigError(
            f"an example of {data.units_per_example} {data.unit}s (data.kind={data.kind}) is not "
            f"divisible by mesh.seq={mesh.shape['seq']}"
        )
    if mesh.shape["stage"] > 1:
        _check_pipeline(config, mesh.shape["stage"], rows)


def _check_pipeline(config: RunConfig, stages: int, rows: int) -> None:
    """`rows`: devices that each microbatch is split over."""
    model = config.model
    microbatches, repeats = choices.family(model).pipeline(model, stages)
    if model.depth % (stages * repeats):
        raise ConfigError(
            f"model.depth={model.depth} is not divisible by mesh.stage={stages} x "
            f"model.pipeline_repeats={repeats}; change any of them"
        )
    if repeats > 1 and microbatches < stages:
        raise ConfigError(
            f"model.pipeline_microbatches={microbatches} is less than mesh.stage={stages}: with "
            f"model.pipeline_repeats={repeats} a microbatch would come round before its turn"
        )
    pieces = {
        "train.batch_size / train.microbatches": config.train.batch_size
        // config.train.microbatches,
        "evals.batch_size": config.evals.batch_size,
    }
    for name, size in pieces.items():
        if size % (microbatches * rows):
            raise ConfigError(
                f"{name} = {size} rows cannot be cut into {microbatches} microbatches of the "
                f"pipeline (model.pipeline_microbatches; None: mesh.stage={stages}) over {rows} "
                "devices; change any of them"
            )


def check_host_memory(mesh: Mesh, field: str) -> None:
    """Raises ConfigError, naming `field` and what there is, if the devices have no HOST memory."""
    device = mesh.devices.flat[0]
    kinds = [memory.kind for memory in device.addressable_memories()]
    if HOST not in kinds:
        raise ConfigError(
            f"{field} needs devices with {HOST} memory; {device.device_kind} has "
            f"{', '.join(kinds) or 'none that is named'}: leave it unset"
        )


def pipeline_overhead(config: RunConfig) -> float:
    """What the blocks execute over what counts: (M R + S - 1) / (M R) with S stages, M microbatches
    and R repeats (`scaling/models/pipeline.py`). 1 without stages.

    The closed formulas, and so MFU, have the FLOPs that count.
    """
    stages = config.mesh.stage
    microbatches, repeats = choices.family(config.model).pipeline(config.model, stages)
    visits = microbatches * repeats
    return (visits + stages - 1) / visits if stages > 1 else 1.0
