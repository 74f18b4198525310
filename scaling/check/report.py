"""Everything that `launch.py check` says of one run on one target, as a dataclass.

Takes a resolved run and a `Target`; compiles the step (or takes the result of an equal program from
the cache) and adds the sharding table, the counts by every convention and the roofline. `text.py`
prints it, `as_dict` is its JSON. Called by `propose.py`, `grid.py` and `scaling/commands`.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scaling.check import compiled as compiled_lib
from scaling.check import roofline as roofline_lib
from scaling.check.cache import Cache
from scaling.check.compiled import Compiled
from scaling.check.target import Target
from scaling.config import RunConfig, amounts, choices, run_name
from scaling.costs import counts, sizes
from scaling.costs.counted import slow_loops
from scaling.costs.ledger import Ledger, total
from scaling.devices import meshes, peaks, sharding

Parts = dict[str, dict[str, Ledger]]  # part of the model -> pass -> counts


@dataclass(frozen=True)
class Report:
    """One run on one target."""

    config: RunConfig
    target: Target
    mesh: dict[str, int]  # axis -> devices
    table: Sequence[sharding.Row]
    parts: Parts  # of a step over all devices: `counts.parts_ledger`
    update: Ledger  # of the optimizer, once over all parameters
    compiled: Compiled
    cached: bool  # the compiler's numbers are those of an earlier, equal program
    limit: float | None  # bytes that a device may use
    peak: float | None  # FLOP/s of a device
    traffic: Sequence[roofline_lib.Traffic]
    roofline: roofline_lib.Roofline | None  # None: the step does not fit

    @property
    def ledger(self) -> Ledger:
        """All parts, without the optimizer."""
        return total(count for passes in self.parts.values() for count in passes.values())

    @property
    def fits(self) -> bool:
        """Whether the compiler found a plan within the memory."""
        if self.compiled.memory is None:
            return False
        return self.limit is None or self.compiled.needs <= self.limit

    @property
    def devices(self) -> int:
        """Of the mesh."""
        return len(self.target.devices)

    @property
    def units(self) -> int:
        """Units of data a step."""
        return amounts.units_per_step(self.config)

    def mfu(self, seconds: float | None) -> float | None:
        """Model FLOPs utilization of a step that takes `seconds`: `sizes.size`'s FLOPs, which
        count attention in full and no recomputation, over the devices' peak in the run's dtype.
        """
        if not seconds or not self.peak:
            return None
        return sizes.step_flops(self.config) / (seconds * self.peak * self.devices)

    @property
    def warnings(self) -> list[str]:
        """What should be read although the step fits."""
        found = [row.warning for row in self.table if row.warning]
        if slow := slow_loops(self.config, self.target.devices[0].platform):
            found.append(slow)
        program = self.compiled.program
        if program is not None and program.open_loops:
            found.append(f"{program.open_loops} loops of unknown length: their body counts once")
        return found


def check(config: RunConfig, target: Target, cache: Cache | None = None) -> Report:
    """Compile the step of a resolved run for a target and say what it needs.

    Raises ConfigError when the run does not fit the mesh, or the mesh the target.
    """
    mesh = meshes.make_mesh(config.mesh, target.devices)
    meshes.check_batch(config, mesh)
    lowered = compiled_lib.lower(config, mesh, target)
    found = cache.get(lowered.key) if cache else None
    compiled = found or compiled_lib.compile(lowered, target)
    if cache and not found:
        cache.put(lowered.key, compiled)
    with sharding.context(mesh):  # a pipeline's program depends on its stages
        parts = counts.parts_ledger(config)
    update = counts.optimizer_ledger(config)
    peak = target.chip.peak(config.model.dtype) if target.chip else None
    if peak is None:
        peak = peaks.peak_flops(target.devices[0], config.model.dtype)
    rows: list[roofline_lib.Traffic] = []
    roofline = None
    if compiled.program is not None:
        rows = roofline_lib.traffic(compiled.program.collectives, mesh, target)
        compute = _matmul_seconds(config, parts, target, peak)
        roofline = roofline_lib.roofline(compute, compiled.program, rows, target.chip)
    limits = [x for x in (compiled.limit, target.hbm_bytes) if x is not None]
    return Report(
        config=config,
        target=target,
        mesh=dict(mesh.shape),
        table=sharding.check(lowered.plan.boxed, lowered.plan.shardings, mesh),
        parts=parts,
        update=update,
        compiled=compiled,
        cached=found is not None,
        limit=min(limits, default=None),
        peak=peak,
        traffic=rows,
        roofline=roofline,
    )


def _matmul_seconds(
    config: RunConfig, parts: Parts, target: Target, peak: float | None
) -> float | None:
    """Seconds a step of the program's matmuls, spread evenly over the target's devices.

    At `peak`, but for those of 8 bits (`models/quantized.py`): of projections the forward pass,
    what is recomputed of it, and the half of the backward pass that is not the weights' gradient.
    """
    if peak is None:
        return None
    counts = total(count for passes in parts.values() for count in passes.values())
    flops, eight = counts.matmul + counts.convolution, 0.0
    seconds = 0.0
    rounded = choices.family(config.model).eight_bits(config.model)
    if rounded is not None and target.chip is not None:
        dtype, names = rounded
        for passes in (parts[name] for name in sorted(names) if name in parts):
            eight += passes["forward"].matmul + passes["remat"].matmul
            eight += passes["backward"].matmul / 2
        seconds = eight / target.chip.peak(dtype)
    return (seconds + (flops - eight) / peak) / len(target.devices)


def model_flops(config: RunConfig) -> dict[str, float]:
    """Training FLOPs a unit of data by kind of matmul, in closed form, where the family has one."""
    of_family = choices.family(config.model).by_kind
    return {} if of_family is None else of_family(config.model, config.data)


def flops_per_unit(report: Report) -> dict[str, float]:
    """Of training, by every convention of `sizes.conventions`; and `hardware`, the matmuls
    that the program executes, recomputation by remat and a pipeline's bubble included.
    """
    executed = report.ledger.matmul / report.units
    return sizes.conventions(report.config) | {"hardware": executed}


def as_dict(report: Report) -> dict[str, Any]:
    """The report as JSON values; docs/check.md says what each field is."""
    config, roofline = report.config, report.roofline
    cost = sizes.cost(config)
    used = {axis: size for axis, size in report.mesh.items() if size > 1}
    values: dict[str, Any] = {
        "run": run_name(config),
        "fits": report.fits,
        "target": report.target.name,
        "devices": report.devices,
        "mesh": used,
        "bytes_needed": report.compiled.needs,
        "bytes_limit": report.limit,
        "memory": None
        if report.compiled.memory is None
        else dataclasses.asdict(report.compiled.memory),
        "compiler_message": report.compiled.reason,
        "compile_seconds": report.compiled.seconds,
        "cached": report.cached,
        "params": {
            "total": cost.params,
            "non_embedding": cost.params_non_embedding,
            "active": cost.params_active,
        },
        "unit": config.data.unit,
        "units_per_step": report.units,
        "flops_per_unit": flops_per_unit(report),
        "model_flops_per_unit": model_flops(config),
        "program_flops_per_step": {
            name: getattr(report.ledger, name)
            for name in ("matmul", "convolution", "elementwise", "reduction", "transcendental")
        },
        "program_flops_per_step_by_part": {
            part: {when: count.flops for when, count in passes.items()}
            for part, passes in report.parts.items()
        },
        "optimizer_flops_per_step": report.update.flops,
        "pipeline_overhead": meshes.pipeline_overhead(config),
        "sharding": [
            {
                "path": row.path,
                "shape": list(row.shape),
                "axes": list(row.axes),
                "spec": [list(_listed(entry)) for entry in row.spec],
                "bytes_per_device": row.bytes_per_device,
                "replicated": row.replicated,
            }
            for row in report.table
        ],
        "largest_replicated_bytes": max(
            (row.bytes_per_device for row in report.table if row.replicated), default=0
        ),
        "collectives": [dataclasses.asdict(row) for row in report.traffic],
        "warnings": report.warnings,
    }
    if roofline is not None and report.compiled.program is not None:
        values["memory_traffic_bytes"] = report.compiled.program.memory_traffic
        values["seconds"] = {
            "compute": roofline.compute,
            "memory": roofline.memory,
            "links": roofline.links,
            "network": roofline.network,
            "overlapped": roofline.overlapped,
            "serial": roofline.serial,
        }
        values["bound"] = roofline.bound
        values["mfu"] = {
            "overlapped": report.mfu(roofline.overlapped),
            "serial": report.mfu(roofline.serial),
        }
    return values


def _listed(entry: Any) -> Sequence[str]:
    if entry is None:
        return ()
    return (entry,) if isinstance(entry, str) else tuple(entry)
