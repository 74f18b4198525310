"""Seconds by hand: what a collective, a matmul and a byte of memory take."""

import itertools
from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from scaling.check import program as program_lib
from scaling.check import roofline
from scaling.check.target import Target
from scaling.devices import slices as slices_lib

V5E = slices_lib.find("v5e:16x16")
LINK, NETWORK = 45e9, 3.125e9  # bytes/s one way: the table's
GROUP_X = tuple(range(0, 256, 16))  # 16 chips along the first dimension


@dataclass(frozen=True)
class Place:
    """What the roofline asks of a device."""

    coords: tuple[int, ...]
    slice_index: int = 0


def target(slices: int = 1, topology: slices_lib.Slice = V5E) -> Target:
    """Slices whose devices are numbered row by row."""
    inside = list(itertools.product(*map(range, topology.shape)))
    places = [Place(place, s) for s in range(slices) for place in inside]
    return Target("test", places, topology.chip, topology.shape, slices)


def mesh(target: Target, **axes: int) -> SimpleNamespace:
    """Of the target's devices, in their order."""
    grid = np.empty(len(target.devices), dtype=object)
    grid[:] = target.devices
    return SimpleNamespace(shape=axes, devices=grid.reshape(tuple(axes.values())))


def row(collective: program_lib.Collective, where: Target, **axes: int) -> roofline.Traffic:
    (found,) = roofline.traffic([collective], mesh(where, **axes), where)
    return found


@pytest.mark.parametrize(
    ("kind", "passes"), [("all-gather", 1), ("reduce-scatter", 1), ("all-reduce", 2)]
)
def test_a_ring_sends_each_share_past_every_other_device(kind, passes):
    one_second = 16 / 15 * 2 * LINK  # a dimension of 16 is a ring: two links
    found = row(program_lib.Collective(kind, 3, one_second, GROUP_X), target(), data=16, fsdp=16)
    assert found.axes == ("data",)
    assert found.count == 3
    assert found.bytes == 3 * one_second
    assert found.link_seconds == pytest.approx(3 * passes)
    assert found.network_seconds == 0


def test_a_group_over_both_dimensions_has_all_links():
    everyone = tuple(range(256))
    found = row(
        program_lib.Collective("all-gather", 1, 256 / 255 * 4 * LINK, everyone), target(), fsdp=256
    )
    assert found.link_seconds == pytest.approx(1)


def test_an_open_line_has_one_link():
    small = target(topology=slices_lib.find("v5e:2x4"))
    found = row(
        program_lib.Collective("all-gather", 1, 4 / 3 * LINK, (0, 1, 2, 3)), small, data=2, fsdp=4
    )
    assert found.link_seconds == pytest.approx(1)


def test_a_part_of_a_ring_is_a_line():
    """On v5e:16x16 a group of 4 neighbours has one link; one that takes every 4th place has a
    quarter of two, for 3 others send past it, and its other dimension besides.
    """
    where = target()
    neighbours = program_lib.Collective("all-gather", 1, 4 / 3 * LINK, (0, 1, 2, 3))
    found = row(neighbours, where, fsdp=64, tensor=4)
    assert found.axes == ("tensor",)
    assert found.link_seconds == pytest.approx(1)
    apart = program_lib.Collective("all-gather", 1, 4 / 3 * LINK, (0, 4, 8, 12))
    assert row(apart, where, data=16, fsdp=4, tensor=4).link_seconds == pytest.approx(2)
    both = program_lib.Collective("all-gather", 1, 64 / 63 * LINK, tuple(range(0, 256, 4)))
    found = row(both, where, fsdp=64, tensor=4)
    assert found.axes == ("fsdp",)
    assert found.link_seconds == pytest.approx(1 / (2 + 2 / 4))


def test_three_dimensional_slices_are_tori_only_as_whole_cubes():
    everyone = program_lib.Collective("all-gather", 1, LINK, tuple(range(32)))
    part = target(topology=slices_lib.find("v4:2x4x4"))
    assert row(everyone, part, fsdp=32).link_seconds == pytest.approx(31 / 32 / 3)
    everyone = program_lib.Collective("all-gather", 1, LINK, tuple(range(64)))
    cube = target(topology=slices_lib.find("v4:4x4x4"))
    assert row(everyone, cube, fsdp=64).link_seconds == pytest.approx(63 / 64 / 6)


# ---- all-to-all


def busiest(members: int, ring: bool) -> float:
    """Shares of an array over the busiest link, if every member sends one to every other: counted
    hop by hop. Where both ways round a ring are equally long, half goes either way.
    """
    load = Counter[tuple[int, int]]()
    for a, b in itertools.permutations(range(members), 2):
        ahead, back = (b - a) % members, (a - b) % members
        if not ring:
            ways = [(np.sign(b - a), abs(b - a))]
        elif ahead == back:
            ways = [(1, ahead), (-1, back)]
        else:
            ways = [(1, ahead) if ahead < back else (-1, back)]
        for step, hops in ways:
            for hop in range(hops):
                load[(a + step * hop) % members, step] += 1 / len(ways)
    return max(load.values())


@pytest.mark.parametrize(("topology", "members"), [("v5e:2x4", 4), ("v5e:4x8", 8)])
def test_an_all_to_all_fills_the_busiest_link_of_a_line(topology, members):
    where = target(topology=slices_lib.find(topology))
    group = tuple(range(members))
    axes = {"data": len(where.devices) // members, "expert": members}
    found = row(program_lib.Collective("all-to-all", 1, LINK, group), where, **axes)
    assert found.link_seconds == pytest.approx(busiest(members, ring=False) / members)
    assert found.link_seconds == pytest.approx(members / 4)


def test_an_all_to_all_fills_the_busiest_link_of_a_ring():
    found = row(
        program_lib.Collective("all-to-all", 2, LINK, GROUP_X), target(), expert=16, fsdp=16
    )
    assert found.link_seconds == pytest.approx(2 * busiest(16, ring=True) / 16)
    assert found.link_seconds == pytest.approx(2 * 16 / 8)


def test_an_all_to_all_over_a_torus_takes_as_long_as_its_slowest_dimension():
    """On v5e:8x16 the 16 are a ring, 16 / 8 arrays a link, and the 8 a line, 8 / 4."""
    everyone = tuple(range(128))
    where = target(topology=slices_lib.find("v5e:8x16"))
    found = row(program_lib.Collective("all-to-all", 1, LINK, everyone), where, expert=128)
    assert found.link_seconds == pytest.approx(2)


def test_a_pair_exchanges_halves():
    where = target(topology=slices_lib.find("v5e:2x4"))
    found = row(program_lib.Collective("all-to-all", 1, LINK, (0, 1)), where, fsdp=4, expert=2)
    assert found.link_seconds == pytest.approx(1 / 2)


def test_an_all_to_all_between_slices_sends_whole_arrays():
    two = target(slices=2)
    everyone = program_lib.Collective("all-to-all", 1, NETWORK, tuple(range(512)))
    found = row(everyone, two, replica=2, fsdp=256)
    assert found.network_seconds == pytest.approx(1 / 2)


def test_opposite_rings_share_no_link():
    right = tuple((i, (i + 1) % 16) for i in range(16))
    left = tuple((b, a) for a, b in right)
    both = [program_lib.Collective("collective-permute", 2, LINK, p[0], p) for p in (right, left)]
    where = target()
    (found,) = roofline.traffic(both, mesh(where, data=16, seq=16), where)
    assert (found.count, found.bytes, found.axes) == (4, 4 * LINK, ("seq",))
    assert found.link_seconds == pytest.approx(2)
    (one,) = roofline.traffic(both[:1], mesh(where, data=16, seq=16), where)
    assert one.link_seconds == pytest.approx(2)


def test_between_slices_each_device_sends_its_share_over_the_network():
    two = target(slices=2)
    axes = {"replica": 2, "fsdp": 256}
    found = row(program_lib.Collective("all-reduce", 1, NETWORK, (0, 256)), two, **axes)
    assert found.axes == ("replica",)
    assert found.link_seconds == 0
    assert found.network_seconds == pytest.approx(2 * 1 / 2)  # half of it, there and back
    whole = row(
        program_lib.Collective("all-reduce", 1, 256 * NETWORK, tuple(range(512))), two, **axes
    )
    assert whole.network_seconds == pytest.approx(1)
    assert whole.link_seconds == pytest.approx(2 * 255 / 256 * 256 * NETWORK / (4 * LINK))


def test_a_step_takes_between_the_longest_resource_and_their_sum():
    rows = [
        roofline.Traffic("all-gather", ("fsdp",), 16, 1, 0.0, 0.5, 0.0),
        roofline.Traffic("reduce-scatter", ("fsdp",), 16, 1, 0.0, 0.25, 0.0),
        roofline.Traffic("all-reduce", ("replica",), 2, 1, 0.0, 0.0, 0.125),
    ]
    program = program_lib.Program((), memory_traffic=2 * 819e9, open_loops=0)
    found = roofline.roofline(3.0, program, rows, V5E.chip)
    assert (found.compute, found.memory, found.network) == (3.0, 2.0, 0.125)
    assert found.links == {"fsdp": 0.75}
    assert found.overlapped == 3.0
    assert found.serial == 3.0 + 0.75 + 0.125
    assert found.bound == "compute"


def test_a_device_that_is_not_in_the_table_has_no_times():
    unknown = Target("abacus", target().devices, None)
    found = row(program_lib.Collective("all-gather", 1, 1.0, GROUP_X), unknown, data=16, fsdp=16)
    assert (found.link_seconds, found.network_seconds) == (None, None)
    program = program_lib.Program((), 1.0, 0)
    times = roofline.roofline(None, program, [found], None)
    assert times.overlapped is times.serial is None
