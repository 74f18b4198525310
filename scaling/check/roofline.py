"""How long a step must take at least: each resource's work divided by what the chip can do.

Takes the FLOPs of a device, the compiled program's memory traffic and collectives, and a target;
gives a `Roofline`. Two numbers bound the step: everything overlaps (the longest resource alone) and
nothing does (their sum). Pure arithmetic; called by `report.py`.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling.check import program as program_lib
from scaling.check.target import Target


@dataclass(frozen=True)
class Traffic:
    """All collectives of one kind over the same mesh axes."""

    kind: str
    axes: tuple[str, ...]  # mesh axes along which the devices of a group differ
    devices: int  # of a group
    count: int  # a step
    bytes: float  # of the arrays, a step and device: see `program_lib.Collective.bytes`
    link_seconds: float | None  # on the links inside a slice; None: bandwidth not known
    network_seconds: float | None  # between slices or hosts


@dataclass(frozen=True)
class Roofline:
    """Seconds a step of each resource, if it worked at its peak all the time."""

    compute: float | None
    memory: float | None
    links: dict[str, float]  # "data", "fsdp+tensor", ...: mesh axes -> seconds
    network: float | None

    @property
    def _resources(self) -> list[float]:
        times = [self.compute, self.memory, *self.links.values(), self.network]
        return [t for t in times if t is not None]

    @property
    def overlapped(self) -> float | None:
        """If everything overlaps: the longest of the resources."""
        return max(self._resources) if self.compute is not None else None

    @property
    def serial(self) -> float | None:
        """If nothing overlaps but matmuls with their own memory traffic."""
        if self.compute is None:
            return None
        links = sum(self.links.values()) + (self.network or 0.0)
        return max(self.compute, self.memory or 0.0) + links

    @property
    def bound(self) -> str:
        """The resource that takes longest."""
        times = {"compute": self.compute, "memory": self.memory, "network": self.network}
        times |= {f"links ({axes})": t for axes, t in self.links.items()}
        return max(times, key=lambda name: times[name] or 0.0)


def roofline(
    compute: float | None, program: program_lib.Program, traffic: Sequence[Traffic], chip: Any
) -> Roofline:
    """Of one device: `compute` seconds of matmuls a step, and what the compiled program moves."""
    links: dict[str, float] = {}
    network = 0.0
    for row in traffic:
        if row.link_seconds:
            links["+".join(row.axes)] = links.get("+".join(row.axes), 0.0) + row.link_seconds
        network += row.network_seconds or 0.0
    return Roofline(
        compute=compute,
        memory=program.memory_traffic / chip.hbm_bandwidth if chip else None,
        links=links,
        network=network or None,
    )


# Bytes that a device sends for one whole array of n bytes over a group of g, on a ring:
# (g - 1) / g of it, twice for an all-reduce (a reduce-scatter and an all-gather; Patarasuk and Yuan
# 2009). A permute sends all, an all-to-all see `_exchange`.
_PASSES = {"all-reduce": 2.0}


def traffic(
    collectives: Sequence[program_lib.Collective], mesh: Any, target: Target
) -> list[Traffic]:
    """Collectives by kind and mesh axes, with their seconds; largest first."""
    found: dict[tuple[str, tuple[str, ...]], Traffic] = {}
    one_way: dict[tuple[program_lib.Pair, ...], Traffic] = {}
    for collective in collectives:
        new = _traffic(collective, mesh, target)
        if collective.pairs:
            pairs = tuple(sorted(collective.pairs))
            one_way[pairs] = _add(one_way[pairs], new) if pairs in one_way else new
        else:
            key = (new.kind, new.axes)
            found[key] = _add(found[key], new) if key in found else new
    for pairs, row in one_way.items():
        opposite = tuple(sorted((b, a) for a, b in pairs))
        if opposite != pairs and opposite in one_way:
            if opposite < pairs:
                continue  # counted with the other
            # Two rings in opposite directions do not share a link: the longer one counts.
            times = (row.link_seconds, one_way[opposite].link_seconds)
            longer = None if None in times else max(t for t in times if t is not None)
            row = dataclasses.replace(_add(row, one_way[opposite]), link_seconds=longer)
        key = (row.kind, row.axes)
        found[key] = _add(found[key], row) if key in found else row
    return sorted(found.values(), key=lambda row: -row.bytes)


def _traffic(collective: program_lib.Collective, mesh: Any, target: Target) -> Traffic:
    members = collective.pairs or (collective.group,)
    # [group, mesh axis, member]: an axis is crossed if members differ along it.
    places = np.array([np.unravel_index(group, tuple(mesh.shape.values())) for group in members])
    crossed = (places != places[:, :, :1]).any(axis=(0, 2))
    axes = tuple(name for name, here in zip(mesh.shape, crossed, strict=True) if here)
    ring = math.prod(mesh.shape[axis] for axis in axes)
    link, network = _seconds(collective, [mesh.devices.flat[i] for i in collective.group], target)
    return Traffic(
        kind=collective.kind,
        axes=axes,
        devices=ring if collective.pairs else len(collective.group),
        count=collective.count,
        bytes=collective.count * collective.bytes,
        link_seconds=None if link is None else collective.count * link,
        network_seconds=None if network is None else collective.count * network,
    )


def _add(one: Traffic, other: Traffic) -> Traffic:
    def both(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else a + b

    return Traffic(
        one.kind,
        one.axes,
        max(one.devices, other.devices),
        one.count + other.count,
        one.bytes + other.bytes,
        both(one.link_seconds, other.link_seconds),
        both(one.network_seconds, other.network_seconds),
    )


def _seconds(
    collective: program_lib.Collective, devices: Sequence[Any], target: Target
) -> tuple[float | None, float | None]:
    """(on links, on the network between slices) of one run of a collective.

    A group that spans slices works in two levels: inside a slice as if alone, then each device
    sends its share of the array across; in an all-to-all, and a permute, it has a whole array.
    """
    chip = target.chip
    if chip is None:
        return None, None
    places = np.array([target.coordinates(device) for device in devices])
    slices = len(np.unique(places[:, 0]))
    inside = len(devices) // slices
    size, passes = collective.bytes, _PASSES.get(collective.kind, 1.0)
    if collective.pairs:
        across = slices > 1
        bandwidth = chip.network_bandwidth if across else chip.link_bandwidth
        return (0.0, size / bandwidth) if across else (size / bandwidth, 0.0)
    exchange = collective.kind == "all-to-all"
    link = network = 0.0
    if slices > 1:
        share = size if exchange else size / inside
        network = passes * (slices - 1) / slices * share / chip.network_bandwidth
    if inside > 1:
        lanes = _lanes(places[places[:, 0] == places[0, 0], 1:], target)
        if exchange and lanes:
            link = max(_exchange(lane) for lane in lanes) * size / chip.link_bandwidth
        else:  # without a torus one link, to a switch
            links = sum(lane.links for lane in lanes) or 1.0
            link = passes * (inside - 1) / inside * size / (links * chip.link_bandwidth)
    return link, network


@dataclass(frozen=True)
class _Lane:
    """A dimension of the torus along which a group lies."""

    members: int  # places of the group along it
    links: float  # over which a device sends along it, those that other groups use deducted


def _lanes(places: np.ndarray, target: Target) -> list[_Lane]:
    """The dimensions of the torus that a group spans inside a slice, by its devices' places.

    A device has two links along a dimension if the group covers all of it and it is a ring, else
    one: a part of a ring is a line, and an end of a line has no other. A group that takes every
    n-th place shares each link with the n - 1 groups between its places, which send at the same
    time.
    """
    assert target.chip is not None
    lanes = []
    rings = target.chip.rings(target.shape)
    for here, size, ring in zip(places.T, target.shape, rings, strict=False):
        at = np.unique(here)
        if len(at) > 1:
            apart = (at[-1] - at[0]) / (len(at) - 1)
            closed = ring and len(at) * apart == size
            lanes.append(_Lane(len(at), (2 if closed else 1) / apart))
    return lanes


def _exchange(lane: _Lane) -> float:
    """Whole arrays that pass over one link in an all-to-all along one dimension.

    Each of g devices has an array of V bytes, of which V / g is for each of the others. Cut the
    dimension in the middle: of the g // 2 devices on one side each sends V / g to each of the
    g - g // 2 on the other, together V floor(g^2 / 4) / g one way, over the one link of a line or
    the two of a ring. For an even g that is V g / 4 over a line, V g / 8 over a ring, however the
    bytes are routed: most of what a link carries is passed on for others. In a group over several
    dimensions each array travels along one after the other, all dimensions at the same time, so
    that the slowest is the time.
    """
    return lane.members**2 // 4 / lane.members / lane.links
