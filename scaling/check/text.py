"""A report as text: what a person reads before paying for a pod."""

import math
from collections.abc import Sequence

from scaling.check.report import Report, flops_per_unit, model_flops
from scaling.config import run_name
from scaling.costs import counts, sizes
from scaling.devices import meshes, sharding
from scaling.units import binary, human


def short(seconds: float | None) -> str:
    """Three digits of s, ms or µs; "-" for None and 0."""
    if not seconds:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{1e6 * seconds:.3g} µs"


def text(report: Report) -> str:
    """The whole report."""
    parts = [_head(report), sharding.table(report.table), _counts(report), _memory(report)]
    if report.roofline is not None:
        parts += [_collectives(report), _time(report)]
    return "\n\n".join([*parts, verdict(report)])


def _head(report: Report) -> str:
    used = " x ".join(f"{axis} {n}" for axis, n in report.mesh.items() if n > 1) or "one device"
    source = "from the cache" if report.cached else "compiled now"
    return "\n".join(
        [
            run_name(report.config),
            f"target: {report.target.name}, {report.devices} devices; mesh: {used}",
            f"compiler: {report.compiled.seconds:.0f} s ({source})",
        ]
    )


def _counts(report: Report) -> str:
    config, ledger = report.config, report.ledger
    cost = sizes.cost(config)
    conventions = "  ".join(f"{k} {human(v)}" for k, v in flops_per_unit(report).items())
    kinds = "  ".join(f"{k} {human(v)}" for k, v in model_flops(config).items() if v)
    classes = ("matmul", "elementwise", "reduction", "transcendental")
    program = "  ".join(f"{name} {human(getattr(ledger, name))}" for name in classes)
    bubble = 1 - 1 / meshes.pipeline_overhead(config)
    of_pipeline = f" (of the blocks', {bubble:.0%} are the pipeline's bubble)" if bubble else ""
    return "\n".join(
        [
            f"params: {cost.params:,} total, {cost.params_non_embedding:,} without embeddings, "
            f"{cost.params_active:,} active",
            f"training: {config.train.steps:,} steps, {human(cost.amount)} {cost.unit}s, "
            f"{cost.flops:.3g} FLOPs; a step: {report.units:,} {cost.unit}s",
            f"FLOPs a {cost.unit}, by convention: {conventions}",
            *([f"FLOPs a {cost.unit}, by matmul:     {kinds}"] if kinds else []),
            f"FLOPs a step, by the program: {program}{of_pipeline}",
            *_parts(report),
        ]
    )


def _parts(report: Report) -> list[str]:
    """A line for each part of the model, the largest first, and one for the update."""
    head = ["part", *counts.PASSES]
    rows = [
        [part, *(human(passes[when].flops) for when in counts.PASSES)]
        for part, passes in sorted(
            report.parts.items(), key=lambda item: -sum(c.flops for c in item[1].values())
        )
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  "
        + row[0].ljust(widths[0])
        + "".join(f"  {v:>{w}}" for v, w in zip(row[1:], widths[1:], strict=True))
        for row in [head, *rows]
    ]
    return [*lines, f"  the optimizer's update: {human(report.update.flops)}"]


def _memory(report: Report) -> str:
    memory, limit = report.compiled.memory, report.limit
    lines = ["memory a device, by the compiler:"]
    if memory is None:
        return "\n".join([*lines, f"  {report.compiled.reason}"])
    share = f", {memory.total / limit:.0%} of {binary(limit)}" if limit else ""
    lines.append(
        f"  arguments {binary(memory.arguments)} + temporaries {binary(memory.temporaries)} + "
        f"output {binary(memory.output)} - aliased {binary(memory.aliased)} + code "
        f"{binary(memory.generated_code)}"
    )
    host = f"; {binary(memory.host)} of the host's" if memory.host else ""
    return "\n".join([*lines, f"  = {binary(memory.total)}{share}{host}"])


def _collectives(report: Report) -> str:
    if not report.traffic:
        return "collectives: none"
    rows = [("collective", "over", "group", "count", "bytes", "links", "network")]
    for row in report.traffic:
        rows.append(
            (
                row.kind,
                "+".join(row.axes) or "-",
                str(row.devices),
                str(row.count),
                binary(row.bytes),
                short(row.link_seconds),
                short(row.network_seconds),
            )
        )
    return f"collectives of a step, a device:\n{_aligned(rows)}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _time(report: Report) -> str:
    roofline, program = report.roofline, report.compiled.program
    assert roofline is not None
    assert program is not None
    pieces = [f"matmuls {short(roofline.compute)}"]
    if roofline.memory is not None:
        traffic = binary(program.memory_traffic)
        pieces.append(f"memory {short(roofline.memory)} ({traffic})")
    pieces += [f"links over {axes} {short(t)}" for axes, t in roofline.links.items()]
    if roofline.network is not None:
        pieces.append(f"network {short(roofline.network)}")
    lines = [f"time of a step, each resource at its peak: {', '.join(pieces)}"]
    times = {"if all overlap ": roofline.overlapped, "if none overlap": roofline.serial}
    if report.target.chip is None:
        lines[0] += "; other resources of this device are not in the table of chips"
        times = {"at the least": roofline.compute}
    for name, seconds in times.items():
        mfu = report.mfu(seconds)
        if seconds and mfu is not None:
            rate, unit = report.units / seconds, report.config.data.unit
            lines.append(
                f"  {name}: {short(seconds)}, {human(rate)} {unit}s/s "
                f"({human(rate / report.devices)} a device), MFU {mfu:.0%}"
            )
    return "\n".join([*lines, f"  bound by {roofline.bound}"])


def verdict(report: Report) -> str:
    """One line."""
    limit, needs = report.limit, report.compiled.needs
    where = f"on {report.target.name}"
    if report.fits:
        free = "" if limit is None else f", {binary(limit - needs)} free a device"
        return f"FITS {where}: {binary(needs)} a device{free}"
    over = math.nan if limit is None else needs - limit
    at_least = "at least " if report.compiled.memory is None else ""
    return (
        f"DOES NOT FIT {where}: {at_least}{binary(needs)} a device of {binary(limit)}, "
        f"{binary(over)} too much"
    )
